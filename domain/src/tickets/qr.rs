//! A ticket's code as a QR code: PNG for mails, which show no SVG, and SVG for browsers.

use fast_qr::{
    ECL, QRBuilder, QRCode,
    convert::{Builder, svg::SvgBuilder},
};

use crate::fault::Fault;

/// The quiet zone that the standard asks for, in modules.
const QUIET_MODULES: usize = 4;
/// The size of a module: a code of 29 modules is then 296 pixels wide, sharp on paper and on dense screens.
const MODULE_PX: usize = 8;

/// The code as an SVG document, black on white, as large as whoever shows it wants.
pub fn svg(code: &str) -> Result<String, Fault> {
    Ok(SvgBuilder::default().margin(QUIET_MODULES).to_str(&encode(code)?))
}

/// The code as a PNG image, black on white, one bit a pixel. The same code always gives the same bytes.
pub fn png(code: &str) -> Result<Vec<u8>, Fault> {
    let qr = encode(code)?;
    let modules = qr.size + 2 * QUIET_MODULES;
    let side = modules * MODULE_PX;
    let row_bytes = side.div_ceil(8);
    let mut pixels = Vec::with_capacity(row_bytes * side);
    for y in 0..modules {
        let mut row = vec![0xff_u8; row_bytes];
        for x in (0..side).filter(|x| is_dark(&qr, x / MODULE_PX, y)) {
            row[x / 8] &= !(0x80 >> (x % 8));
        }
        for _ in 0..MODULE_PX {
            pixels.extend_from_slice(&row);
        }
    }

    let mut image = Vec::with_capacity(1024);
    let side = u32::try_from(side).map_err(|_| unencodable("too large"))?;
    let mut encoder = png::Encoder::new(&mut image, side, side);
    encoder.set_color(png::ColorType::Grayscale);
    encoder.set_depth(png::BitDepth::One);
    // A module's rows are alike, so what differs from the row above is all there is: nothing to search for.
    encoder.set_filter(png::Filter::Up);
    encoder.set_compression(png::Compression::Fastest);
    let mut writer = encoder.write_header().map_err(unencodable)?;
    writer.write_image_data(&pixels).map_err(unencodable)?;
    writer.finish().map_err(unencodable)?;
    Ok(image)
}

fn encode(code: &str) -> Result<QRCode, Fault> {
    QRBuilder::new(code).ecl(ECL::M).build().map_err(unencodable)
}

/// Whether the module at these coordinates, the quiet zone included, is dark.
fn is_dark(qr: &QRCode, x: usize, y: usize) -> bool {
    let inside = QUIET_MODULES..QUIET_MODULES + qr.size;
    inside.contains(&x) && inside.contains(&y) && qr[y - QUIET_MODULES][x - QUIET_MODULES].value()
}

/// Ticket codes are short and made here, so one that does not fit was put there by foreign hands.
fn unencodable(reason: impl std::fmt::Display) -> Fault {
    Fault::Corrupt(format!("a ticket's code makes no QR code: {reason}"))
}

#[cfg(test)]
mod tests {
    use super::*;

    const CODE: &str = "7Q2K-9XWM-4TBD-H3VA";

    /// How many pixels wide the image of a code is, and its pixels, row by row: whether each is dark.
    fn pixels(code: &str) -> (usize, Vec<bool>) {
        let image = png(code).unwrap();
        let mut reader = png::Decoder::new(std::io::Cursor::new(&image)).read_info().unwrap();
        let mut bytes = vec![0; reader.output_buffer_size().unwrap()];
        let info = reader.next_frame(&mut bytes).unwrap();
        assert_eq!(info.width, info.height);
        let side = info.width as usize;
        let dark =
            |at: usize| bytes[at / side * info.line_size + at % side / 8] & (0x80 >> (at % side % 8)) == 0;
        (side, (0..side * side).map(dark).collect())
    }

    #[test]
    fn png_shows_every_module_where_it_belongs() {
        let qr = encode(CODE).unwrap();
        let (side, dark) = pixels(CODE);
        assert_eq!(side, (qr.size + 8) * MODULE_PX);
        for (at, dark) in dark.into_iter().enumerate() {
            let (x, y) = (at % side, at / side);
            assert_eq!(dark, is_dark(&qr, x / MODULE_PX, y / MODULE_PX), "{x},{y}");
        }
    }

    #[test]
    fn svg_shows_the_dark_modules_and_no_others() {
        let (qr, svg) = (encode(CODE).unwrap(), svg(CODE).unwrap());
        let modules = qr.size + 2 * QUIET_MODULES;
        assert!(svg.starts_with(&format!("<svg viewBox=\"0 0 {modules} {modules}\"")), "{svg}");
        let drawn: Vec<&str> = svg.split('M').skip(1).map(|m| m.split('h').next().unwrap()).collect();
        let rows = (0..modules).flat_map(|y| (0..modules).map(move |x| (x, y)));
        let dark = rows.filter(|(x, y)| is_dark(&qr, *x, *y)).map(|(x, y)| format!("{x},{y}"));
        assert_eq!(drawn, dark.collect::<Vec<_>>());
    }

    #[test]
    fn images_are_the_same_every_time() {
        assert_eq!(png(CODE).unwrap(), png(CODE).unwrap());
        assert_eq!(svg(CODE).unwrap(), svg(CODE).unwrap());
    }

    #[test]
    fn a_reader_reads_the_code() {
        for _ in 0..100 {
            let code = crate::bookings::codes::ticket_code();
            let (side, dark) = pixels(&code);
            let shade = |x, y| if dark[y * side + x] { 0 } else { 255 };
            let mut image = rqrr::PreparedImage::prepare_from_greyscale(side, side, shade);
            let grids = image.detect_grids();
            assert_eq!(grids.len(), 1);
            assert_eq!(grids[0].decode().unwrap().1, code);
        }
    }

    #[test]
    fn what_does_not_fit_is_refused() {
        assert!(png(&"x".repeat(5000)).is_err());
    }
}
