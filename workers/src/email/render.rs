//! A leased mail as the bytes that go out. The same lease content always gives the same bytes: whoever gets a
//! mail twice gets one mail.

use askama::Template;
use chrono::{DateTime, Utc};
use domain::{
    fault::Fault,
    mails::{BookingSnapshot, LeasedMail, MailContent},
    money::Money,
    tickets::{
        calendar::{CalendarEntry, Entry},
        qr,
    },
    trace::TraceContext,
};
use lettre::{
    Address, Message,
    message::{
        Attachment, Mailbox, MultiPart, MultiPartBuilder, SinglePart,
        header::{ContentType, HeaderName, HeaderValue},
    },
};
use uuid::Uuid;

use super::{
    text,
    view::{self, BookingView, CodeView, PaymentView, WaitView},
};

/// A mail, ready to be handed to a server.
#[derive(Clone, Debug)]
pub struct RenderedMail {
    pub id: Uuid,
    pub from: Address,
    pub to: Address,
    pub due_at: DateTime<Utc>,
    /// Headers and body; ASCII, except where an address is not.
    pub raw: String,
}

/// This mail cannot be made, now or later.
#[derive(Debug, thiserror::Error)]
pub enum RenderError {
    #[error("{0:?} is no address to send to")]
    Recipient(String),
    #[error("{0:?} is no address to send from")]
    Sender(String),
    #[error("there is no booking {0}")]
    NoBooking(Uuid),
    #[error("there is no place on the waitlist that it is about")]
    NoWait,
    #[error("template: {0}")]
    Template(#[from] askama::Error),
    #[error("message: {0}")]
    Message(#[from] lettre::error::Error),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// What a kind of mail brings to the frame that all of them share.
struct Parts {
    subject: String,
    text: String,
    html: String,
    /// The QR codes that the HTML shows: Content-ID, file name, PNG.
    images: Vec<(String, String, Vec<u8>)>,
    calendar: Option<(Entry, String)>,
    /// Where one POST ends what the mail is about (RFC 8058).
    unsubscribe: Option<String>,
    /// Whether the reader's name may be shown; not to an address that is yet to be proven, since whoever typed
    /// the address typed the name.
    knows_reader: bool,
}

/// Renders a mail. Takes milliseconds where there are many tickets: call it off the async threads.
pub fn render(mail: &LeasedMail) -> Result<RenderedMail, RenderError> {
    let snapshot = &mail.snapshot;
    let sender: Mailbox =
        snapshot.sender.parse().map_err(|_| RenderError::Sender(snapshot.sender.clone()))?;
    let domain = sender.email.domain().to_owned();
    let recipient = address(&mail.recipient)?;
    let parts = parts(mail, &sender, &domain)?;

    let name = snapshot.name.as_deref().filter(|_| parts.knows_reader).map(|name| text::short_line(name, 80));
    let mut message = Message::builder()
        .from(sender.clone())
        .to(Mailbox::new(name.filter(|name| !name.is_empty()), recipient.clone()))
        .subject(text::short_line(&parts.subject, 150))
        .date(mail.due_at.into())
        .message_id(Some(format!("<{}@{domain}>", mail.id)))
        .raw_header(header("Auto-Submitted", "auto-generated"))
        // Keeps clients from folding the mails of several orders into one thread.
        .raw_header(header("X-Entity-Ref-ID", &mail.id.to_string()));
    if let Some(url) = &parts.unsubscribe {
        message = message
            .raw_header(header("List-Unsubscribe", &format!("<{url}>")))
            .raw_header(header("List-Unsubscribe-Post", "List-Unsubscribe=One-Click"));
    }
    let trace = snapshot.traceparent.as_deref().and_then(|text| text.parse::<TraceContext>().ok());
    if let Some(trace) = trace {
        message = message.raw_header(header("X-Trace-ID", &trace.trace_id_hex()));
    }
    let message = message.multipart(body(mail.id, parts))?;
    let raw = String::from_utf8_lossy(&message.formatted()).into_owned();
    Ok(RenderedMail { id: mail.id, from: sender.email, to: recipient, due_at: mail.due_at, raw })
}

/// The recipient's address, its domain as DNS has it.
fn address(recipient: &str) -> Result<Address, RenderError> {
    let refused = || RenderError::Recipient(recipient.to_owned());
    let (user, domain) = recipient.rsplit_once('@').ok_or_else(refused)?;
    if recipient.chars().any(char::is_control) {
        return Err(refused());
    }
    let domain = match url::Host::parse(domain) {
        Ok(url::Host::Domain(ascii)) => ascii,
        _ => domain.to_owned(),
    };
    Address::new(user, domain).map_err(|_| refused())
}

fn header(name: &'static str, value: &str) -> HeaderValue {
    HeaderValue::new(HeaderName::new_from_ascii_str(name), value.to_owned())
}

/// `mixed(alternative(text, related(HTML, QR codes…)), calendar)`, as far as there are such parts.
fn body(id: Uuid, parts: Parts) -> MultiPart {
    let boundary =
        |builder: MultiPartBuilder, name: &str| builder.boundary(format!("=_{}_{name}", id.simple()));
    let html = SinglePart::html(parts.html);
    let alternative =
        boundary(MultiPart::alternative(), "alternative").singlepart(SinglePart::plain(parts.text));
    let alternative = if parts.images.is_empty() {
        alternative.singlepart(html)
    } else {
        let related = boundary(MultiPart::related(), "related").singlepart(html);
        alternative.multipart(parts.images.into_iter().fold(related, |related, (content_id, name, png)| {
            // The type is a constant that parses.
            let image_type = ContentType::parse("image/png").expect("image/png is a media type");
            related.singlepart(Attachment::new_inline_with_name(content_id, name).body(png, image_type))
        }))
    };
    match parts.calendar {
        None => alternative,
        Some((entry, ics)) => {
            let media_type = format!("text/calendar; charset=utf-8; method={}", entry.method());
            // The type is one of two constants, which parse.
            let media_type = ContentType::parse(&media_type).expect("text/calendar is a media type");
            boundary(MultiPart::mixed(), "mixed")
                .multipart(alternative)
                .singlepart(Attachment::new("event.ics".to_owned()).body(ics, media_type))
        }
    }
}

fn parts(mail: &LeasedMail, sender: &Mailbox, domain: &str) -> Result<Parts, RenderError> {
    let booking = |id: Uuid| {
        let booking = mail.snapshot.booking.as_ref().ok_or(RenderError::NoBooking(id))?;
        Ok::<_, RenderError>((booking, BookingView::new(mail, booking, domain)))
    };
    let wait = |token: &str| {
        let wait = mail.snapshot.wait.as_ref().ok_or(RenderError::NoWait)?;
        Ok::<_, RenderError>(WaitView::new(mail, wait, token))
    };
    let organizer = sender.email.as_ref();
    match &mail.content {
        MailContent::VerifyEmail { code } => {
            let view = CodeView { code: text::line(code), minutes_good: view::minutes_good(mail) };
            let pages = (view::VerifyEmailText { view: &view }, view::VerifyEmailHtml { view: &view });
            with_code("Confirm your e-mail address for Evently", &pages)
        }
        MailContent::ResetPassword { code } => {
            let view = CodeView { code: text::line(code), minutes_good: view::minutes_good(mail) };
            let pages = (view::ResetPasswordText { view: &view }, view::ResetPasswordHtml { view: &view });
            with_code("Choose a new password for Evently", &pages)
        }
        MailContent::BookingConfirmed { booking_id } => {
            let (booking, view) = booking(*booking_id)?;
            let pages =
                (view::BookingConfirmedText { view: &view }, view::BookingConfirmedHtml { view: &view });
            let tickets = if view.tickets.len() == 1 { "ticket" } else { "tickets" };
            let subject = format!("Your {tickets} for {}", view.title);
            let calendar = calendar(Entry::Publish, booking, &view, organizer, booking.confirmed_at, mail);
            Ok(Parts { images: images(&view)?, ..with_booking(subject, &pages, Some(calendar))? })
        }
        MailContent::BookingCancelled { booking_id } => {
            let (booking, view) = booking(*booking_id)?;
            let pages =
                (view::BookingCancelledText { view: &view }, view::BookingCancelledHtml { view: &view });
            let subject = format!("Your booking for {} is cancelled", text::short_line(&view.title, 100));
            let calendar = calendar(Entry::Cancel, booking, &view, organizer, booking.cancelled_at, mail);
            with_booking(subject, &pages, Some(calendar))
        }
        MailContent::EventCancelled { booking_id } => {
            let (booking, view) = booking(*booking_id)?;
            let pages = (view::EventCancelledText { view: &view }, view::EventCancelledHtml { view: &view });
            let subject = format!("{} is cancelled", text::short_line(&view.title, 100));
            let calendar = calendar(Entry::Cancel, booking, &view, organizer, booking.cancelled_at, mail);
            with_booking(subject, &pages, Some(calendar))
        }
        MailContent::BookingRefunded { booking_id } => {
            let (_, view) = booking(*booking_id)?;
            let pages =
                (view::BookingRefundedText { view: &view }, view::BookingRefundedHtml { view: &view });
            with_booking(format!("Your refund for {}", view.title), &pages, None)
        }
        MailContent::PaymentVoided { event, amount, currency } => {
            let view =
                PaymentView { title: text::line(event), amount: Money::new(*amount, currency).to_string() };
            let pages = (view::PaymentVoidedText { view: &view }, view::PaymentVoidedHtml { view: &view });
            with_booking(format!("No booking for {}", text::short_line(&view.title, 100)), &pages, None)
        }
        MailContent::WaitlistOffer { token, .. } => {
            let view = wait(token)?;
            let pages = (view::WaitlistOfferText { view: &view }, view::WaitlistOfferHtml { view: &view });
            let tickets = if view.quantity == 1 { "ticket is" } else { "tickets are" };
            let subject = format!("Your {tickets} waiting: {}", view.title);
            let unsubscribe = Some(format!("{}/decline", view.url));
            Ok(Parts { unsubscribe, ..with_booking(subject, &pages, None)? })
        }
        MailContent::WaitlistOfferExpired { .. } => {
            let view = wait("")?;
            let pages = (
                view::WaitlistOfferExpiredText { view: &view },
                view::WaitlistOfferExpiredHtml { view: &view },
            );
            with_booking(
                format!("Your offer for {} is over", text::short_line(&view.title, 100)),
                &pages,
                None,
            )
        }
        MailContent::WaitlistEnded { .. } => {
            let view = wait("")?;
            let pages = (view::WaitlistEndedText { view: &view }, view::WaitlistEndedHtml { view: &view });
            with_booking(format!("{} is cancelled", text::short_line(&view.title, 100)), &pages, None)
        }
    }
}

fn with_code(subject: &str, (text, html): &(impl Template, impl Template)) -> Result<Parts, RenderError> {
    Ok(Parts {
        subject: subject.to_owned(),
        text: text.render()?,
        html: html.render()?,
        images: Vec::new(),
        calendar: None,
        unsubscribe: None,
        knows_reader: false,
    })
}

fn with_booking(
    subject: String,
    (text, html): &(impl Template, impl Template),
    calendar: Option<(Entry, String)>,
) -> Result<Parts, RenderError> {
    let (text, html) = (text.render()?, html.render()?);
    Ok(Parts { subject, text, html, images: Vec::new(), calendar, unsubscribe: None, knows_reader: true })
}

fn images(view: &BookingView) -> Result<Vec<(String, String, Vec<u8>)>, Fault> {
    view.tickets
        .iter()
        .map(|ticket| {
            let name = format!("ticket-{}.png", ticket.number);
            Ok((ticket.content_id.clone(), name, qr::png(&ticket.code)?))
        })
        .collect()
}

fn calendar(
    entry: Entry,
    booking: &BookingSnapshot,
    view: &BookingView,
    organizer: &str,
    changed_at: Option<DateTime<Utc>>,
    mail: &LeasedMail,
) -> (Entry, String) {
    let ics = CalendarEntry {
        entry,
        booking_id: booking.id,
        reference: &booking.reference,
        title: &booking.event.title,
        starts_at: booking.event.starts_at,
        ends_at: booking.event.ends_at,
        location: &[&booking.venue.name, &booking.venue.address, &booking.venue.city, &booking.venue.country],
        url: &view.url,
        organizer: Some(organizer),
        changed_at: changed_at.unwrap_or(mail.due_at),
    };
    (entry, ics.render())
}
