//! What a ticket looks like outside the database: its QR code and the calendar entry of its booking.

pub mod calendar;
pub mod qr;
