//! Codes that people read: order references and ticket codes.

use rand::Rng;

/// Crockford's base 32: no letter that is taken for a digit, nothing that spells.
const ALPHABET: &[u8; 32] = b"0123456789ABCDEFGHJKMNPQRSTVWXYZ";

fn digits<const N: usize>(mut bits: u128) -> String {
    let mut text = [0_u8; N];
    for digit in text.iter_mut().rev() {
        *digit = ALPHABET[(bits & 31) as usize];
        bits >>= 5;
    }
    text.iter().map(|byte| char::from(*byte)).collect()
}

/// A fresh order reference, such as `EV-7K3M9Q2X`: 40 random bits. Two may meet; a unique index tells.
pub fn reference() -> String {
    format!("EV-{}", digits::<8>(rand::rng().random()))
}

/// A fresh ticket code: 128 random bits in 26 characters, so that none can be guessed.
pub fn ticket_code() -> String {
    digits::<26>(rand::rng().random())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn digits_are_big_endian() {
        assert_eq!(digits::<4>(0), "0000");
        assert_eq!(digits::<4>(33), "0011");
        assert_eq!(digits::<26>(u128::MAX), "7ZZZZZZZZZZZZZZZZZZZZZZZZZ");
    }

    #[test]
    fn shapes() {
        assert_eq!(reference().len(), 11);
        assert_eq!(ticket_code().len(), 26);
        assert_ne!(ticket_code(), ticket_code());
    }
}
