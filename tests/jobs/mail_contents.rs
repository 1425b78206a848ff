//! What every kind of mail says, as a mail client reads it.

use std::fmt::Write;

use chrono::{DateTime, Utc};
use domain::{
    mails::{
        BookingSnapshot, EventSnapshot, ItemSnapshot, LeasedMail, MailContent, Snapshot, TicketSnapshot,
        VenueSnapshot, WaitSnapshot,
    },
    tickets::qr,
};
use mail_parser::{MessageParser, MimeHeaders, PartType};
use uuid::Uuid;
use workers::email::render::render;

fn at(text: &str) -> DateTime<Utc> {
    text.parse().unwrap()
}

fn booking() -> BookingSnapshot {
    BookingSnapshot {
        id: Uuid::from_u128(0xb),
        reference: "EV-7Q2K9X".to_owned(),
        total: 13_500,
        currency: "EUR".to_owned(),
        confirmed_at: Some(at("2027-01-10T09:15:00Z")),
        cancelled_at: None,
        event: EventSnapshot {
            id: Uuid::from_u128(0xe),
            title: "Winter Lights: Anna & Trio".to_owned(),
            starts_at: at("2027-03-05T18:30:00Z"),
            ends_at: at("2027-03-05T21:00:00Z"),
        },
        venue: VenueSnapshot {
            name: "Große Halle".to_owned(),
            address: "Lange Straße 1".to_owned(),
            city: "Berlin".to_owned(),
            country: "DE".to_owned(),
            timezone: "Europe/Berlin".to_owned(),
        },
        refund: None,
        items: vec![
            ItemSnapshot { name: "Stalls".to_owned(), quantity: 2, unit_price: 4_500 },
            ItemSnapshot { name: "Balcony".to_owned(), quantity: 1, unit_price: 4_500 },
        ],
        tickets: [("7Q2K-9XWM-4TBD", "Stalls", Some("A 12")), ("H3VA-0RNE-55CP", "Balcony", None)]
            .into_iter()
            .zip(1..)
            .map(|((code, ticket_type, seat), id)| TicketSnapshot {
                id: Uuid::from_u128(id),
                code: code.to_owned(),
                seat: seat.map(str::to_owned),
                ticket_type: ticket_type.to_owned(),
            })
            .collect(),
    }
}

fn mail(content: MailContent, booking: Option<BookingSnapshot>) -> LeasedMail {
    LeasedMail {
        id: "0199c0de-0000-7000-8000-000000000001".parse().unwrap(),
        recipient: "ada@evently.test".to_owned(),
        content,
        snapshot: Snapshot {
            sender: "Evently <tickets@evently.test>".to_owned(),
            base_url: "https://evently.test".to_owned(),
            traceparent: Some("00-4bf92f3577b34da6a3ce929d0e0e4736-00f067aa0ba902b7-01".to_owned()),
            name: Some("Ada Lovelace".to_owned()),
            booking,
            wait: None,
        },
        attempt: 1,
        due_at: at("2027-01-10T09:15:02.345678Z"),
        deadline: None,
        too_late: false,
    }
}

fn booking_mail(content: fn(Uuid) -> MailContent, change: impl FnOnce(&mut BookingSnapshot)) -> LeasedMail {
    let mut booking = booking();
    change(&mut booking);
    mail(content(booking.id), Some(booking))
}

/// The mail as a client takes it apart: its headers, then every part, decoded.
fn read(mail: &LeasedMail) -> String {
    let raw = render(mail).unwrap().raw;
    assert!(raw.is_ascii());
    assert!(raw.split("\r\n").all(|line| line.len() <= 998 && !line.contains(['\r', '\n'])));
    let (headers, _) = raw.split_once("\r\n\r\n").unwrap();
    let message = MessageParser::default().parse(raw.as_bytes()).unwrap();
    let mut text = format!("{headers}\n\nSubject as shown: {}\n", message.subject().unwrap());
    for part in &message.parts {
        let media_type = part.content_type().unwrap();
        write!(text, "\n=== {}", media_type.ctype()).unwrap();
        if let Some(subtype) = media_type.subtype() {
            write!(text, "/{subtype}").unwrap();
        }
        for name in ["charset", "method"] {
            if let Some(value) = media_type.attribute(name) {
                write!(text, "; {name}={value}").unwrap();
            }
        }
        if let Some(disposition) = part.content_disposition() {
            write!(text, " [{} {}]", disposition.ctype(), disposition.attribute("filename").unwrap())
                .unwrap();
        }
        if let Some(id) = part.content_id() {
            write!(text, " <{id}>").unwrap();
        }
        text.push('\n');
        match &part.body {
            PartType::Text(body) | PartType::Html(body) => text.push_str(&body.replace("\r\n", "\n")),
            PartType::Binary(body) | PartType::InlineBinary(body) => {
                writeln!(text, "{} bytes", body.len()).unwrap();
            }
            PartType::Message(_) | PartType::Multipart(_) => {}
        }
    }
    text
}

#[test]
fn verify_email() {
    let mut mail = mail(MailContent::VerifyEmail { code: "402917".to_owned() }, None);
    mail.deadline = Some(at("2027-01-10T09:25:02.345678Z"));
    insta::assert_snapshot!(read(&mail));
}

#[test]
fn reset_password() {
    let mut mail = mail(MailContent::ResetPassword { code: "402917".to_owned() }, None);
    mail.deadline = Some(at("2027-01-10T09:25:02.345678Z"));
    insta::assert_snapshot!(read(&mail));
}

#[test]
fn booking_confirmed() {
    insta::assert_snapshot!(read(&booking_mail(
        |booking_id| MailContent::BookingConfirmed { booking_id },
        |_| {}
    )));
}

#[test]
fn booking_confirmed_free_of_charge() {
    let mail = booking_mail(
        |booking_id| MailContent::BookingConfirmed { booking_id },
        |booking| {
            booking.total = 0;
            booking.items = vec![ItemSnapshot { name: "Entry".to_owned(), quantity: 1, unit_price: 0 }];
            booking.tickets.truncate(1);
        },
    );
    insta::assert_snapshot!(read(&mail));
}

#[test]
fn booking_cancelled() {
    let mail = booking_mail(
        |booking_id| MailContent::BookingCancelled { booking_id },
        |booking| {
            booking.cancelled_at = Some(at("2027-02-01T12:00:00Z"));
            booking.refund = Some(6_750);
        },
    );
    insta::assert_snapshot!(read(&mail));
}

#[test]
fn booking_cancelled_with_nothing_refunded() {
    let mail = booking_mail(
        |booking_id| MailContent::BookingCancelled { booking_id },
        |booking| booking.cancelled_at = Some(at("2027-02-01T12:00:00Z")),
    );
    insta::assert_snapshot!(read(&mail));
}

#[test]
fn event_cancelled() {
    let mail = booking_mail(
        |booking_id| MailContent::EventCancelled { booking_id },
        |booking| {
            booking.cancelled_at = Some(at("2027-02-01T12:00:00Z"));
            booking.refund = Some(13_500);
        },
    );
    insta::assert_snapshot!(read(&mail));
}

#[test]
fn booking_refunded() {
    let mail = booking_mail(
        |booking_id| MailContent::BookingRefunded { booking_id },
        |booking| {
            booking.currency = "JPY".to_owned();
            booking.refund = Some(13_500);
        },
    );
    insta::assert_snapshot!(read(&mail));
}

fn wait_mail(content: MailContent) -> LeasedMail {
    let booking = booking();
    let mut mail = mail(content, None);
    mail.snapshot.wait = Some(WaitSnapshot {
        entry_id: Uuid::from_u128(0xa),
        ticket_type: "Stalls".to_owned(),
        quantity: 2,
        event: booking.event,
        venue: booking.venue,
        unit_price: Some(4_500),
        currency: "EUR".to_owned(),
        offered_at: Some(at("2027-01-10T09:15:00Z")),
        expires_at: Some(at("2027-01-10T09:45:00Z")),
    });
    mail
}

#[test]
fn waitlist_offer() {
    let (offer_id, token) = (Uuid::from_u128(0xf), "T0k-en_".repeat(6) + "x");
    insta::assert_snapshot!(read(&wait_mail(MailContent::WaitlistOffer { offer_id, token })));
}

#[test]
fn waitlist_offer_expired() {
    let offer_id = Uuid::from_u128(0xf);
    insta::assert_snapshot!(read(&wait_mail(MailContent::WaitlistOfferExpired { offer_id })));
}

#[test]
fn waitlist_ended() {
    let entry_id = Uuid::from_u128(0xa);
    let mut mail = wait_mail(MailContent::WaitlistEnded { entry_id });
    mail.snapshot.wait = mail.snapshot.wait.map(|wait| WaitSnapshot {
        unit_price: None,
        offered_at: None,
        expires_at: None,
        ..wait
    });
    insta::assert_snapshot!(read(&mail));
}

#[test]
fn the_same_mail_is_the_same_bytes() {
    let mail = booking_mail(|booking_id| MailContent::BookingConfirmed { booking_id }, |_| {});
    assert_eq!(render(&mail).unwrap().raw, render(&mail).unwrap().raw);
}

#[test]
fn each_ticket_has_its_own_code_as_an_image_the_html_shows() {
    let mail = booking_mail(|booking_id| MailContent::BookingConfirmed { booking_id }, |_| {});
    let raw = render(&mail).unwrap().raw;
    let message = MessageParser::default().parse(raw.as_bytes()).unwrap();
    let html = message.body_html(0).unwrap();
    for ticket in &mail.snapshot.booking.as_ref().unwrap().tickets {
        let png = qr::png(&ticket.code).unwrap();
        let image = message.parts.iter().find(|part| part.contents() == png).unwrap();
        assert!(html.contains(&format!("src=\"cid:{}\"", image.content_id().unwrap())));
        assert!(html.contains(&format!(">{}</span>", ticket.code)));
    }
}

#[test]
fn hostile_words_stay_words() {
    let hostile =
        "<script>alert(1)</script>\" onload=\"x\r\nBcc: evil@evil.test\r\n\r\n--=_\u{202e}gpj.exe\u{0}";
    let mail = booking_mail(
        |booking_id| MailContent::BookingConfirmed { booking_id },
        |booking| {
            hostile.clone_into(&mut booking.event.title);
            hostile.clone_into(&mut booking.venue.name);
            hostile.clone_into(&mut booking.venue.address);
            hostile.clone_into(&mut booking.items[0].name);
            hostile.clone_into(&mut booking.tickets[0].ticket_type);
            booking.tickets[0].seat = Some(hostile.to_owned());
        },
    );
    let mail = LeasedMail { snapshot: Snapshot { name: Some(hostile.to_owned()), ..mail.snapshot }, ..mail };
    let raw = render(&mail).unwrap().raw;
    let plain = render(&booking_mail(|booking_id| MailContent::BookingConfirmed { booking_id }, |_| {}));

    let message = MessageParser::default().parse(raw.as_bytes()).unwrap();
    let names = |raw: &str| {
        let message = MessageParser::default().parse(raw.as_bytes()).unwrap();
        message.headers().iter().map(|header| header.name().to_owned()).collect::<Vec<_>>()
    };
    assert_eq!(names(&raw), names(&plain.unwrap().raw), "no header more, no header less");
    assert_eq!(message.to().unwrap().iter().count(), 1);
    assert_eq!(message.to().unwrap().first().unwrap().address(), Some("ada@evently.test"));
    assert_eq!(message.parts.len(), 8, "no part more, no part less");
    let html = message.body_html(0).unwrap();
    assert!(!html.contains("<script") && !html.contains("\" onload"), "{html}");
    assert!(!html.contains('\u{202e}') && !message.subject().unwrap().contains('\u{202e}'));
    let ics = message.parts.last().unwrap().text_contents().unwrap();
    assert!(!ics.lines().any(|line| line.starts_with("Bcc")), "{ics}");
}

#[test]
fn long_titles_make_readable_subjects() {
    let mail = booking_mail(
        |booking_id| MailContent::EventCancelled { booking_id },
        |booking| booking.event.title = "Ärger im Paradies ".repeat(50),
    );
    let raw = render(&mail).unwrap().raw;
    let message = MessageParser::default().parse(raw.as_bytes()).unwrap();
    let subject = message.subject().unwrap();
    assert!(subject.chars().count() <= 151 && subject.ends_with("… is cancelled"), "{subject}");
}

#[test]
fn addresses_are_checked() {
    for recipient in ["", "nobody", "a@b\r\nRCPT TO:<x@y.z>", "a b@c.d", "@c.d", "a@"] {
        let mut mail = mail(MailContent::VerifyEmail { code: "402917".to_owned() }, None);
        recipient.clone_into(&mut mail.recipient);
        assert!(render(&mail).is_err(), "{recipient:?}");
    }
    let mut mail = mail(MailContent::VerifyEmail { code: "402917".to_owned() }, None);
    "ada@bücher.example".clone_into(&mut mail.recipient);
    assert_eq!(render(&mail).unwrap().to.to_string(), "ada@xn--bcher-kva.example");
}

#[test]
fn an_unproven_address_is_told_nothing_that_a_stranger_typed() {
    let mail = mail(MailContent::VerifyEmail { code: "402917".to_owned() }, None);
    assert!(!render(&mail).unwrap().raw.contains("Lovelace"));
}

#[test]
fn payment_voided() {
    let content = MailContent::PaymentVoided {
        event: "Winter Lights: Anna & Trio".to_owned(),
        amount: 13_500,
        currency: "EUR".to_owned(),
    };
    insta::assert_snapshot!(read(&mail(content, None)));
}
