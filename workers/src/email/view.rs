//! What templates show: a leased mail, turned into finished lines of text.

use askama::Template;
use chrono::Duration;
use domain::{
    mails::{BookingSnapshot, LeasedMail, WaitSnapshot},
    money::Money,
};

use super::text;

/// A booking as every mail about one shows it.
pub(super) struct BookingView {
    pub reference: String,
    pub title: String,
    pub when: String,
    pub venue: String,
    pub address: String,
    pub items: Vec<ItemView>,
    pub total: String,
    /// Whether there was anything to pay.
    pub paid: bool,
    /// What goes back to the buyer.
    pub refund: Option<String>,
    pub cancelled_at: Option<String>,
    pub tickets: Vec<TicketView>,
    pub url: String,
}

pub(super) struct ItemView {
    pub name: String,
    pub quantity: i64,
    pub price: String,
}

pub(super) struct TicketView {
    /// From 1.
    pub number: usize,
    pub ticket_type: String,
    pub seat: Option<String>,
    pub code: String,
    /// The Content-ID of its QR code.
    pub content_id: String,
}

impl BookingView {
    pub(super) fn new(mail: &LeasedMail, booking: &BookingSnapshot, domain: &str) -> Self {
        let money = |amount| Money::new(amount, &booking.currency).to_string();
        let zone = &booking.venue.timezone;
        let address = [&booking.venue.address, &booking.venue.city, &booking.venue.country];
        let address = address.map(|part| text::line(part)).into_iter().filter(|part| !part.is_empty());
        Self {
            reference: text::line(&booking.reference),
            title: text::line(&booking.event.title),
            when: text::period(booking.event.starts_at, booking.event.ends_at, zone),
            venue: text::line(&booking.venue.name),
            address: address.collect::<Vec<_>>().join(", "),
            items: booking
                .items
                .iter()
                .map(|item| ItemView {
                    name: text::line(&item.name),
                    quantity: item.quantity,
                    price: money(item.unit_price.saturating_mul(item.quantity)),
                })
                .collect(),
            total: money(booking.total),
            paid: booking.total > 0,
            refund: booking.refund.map(money),
            cancelled_at: booking.cancelled_at.map(|at| text::moment(at, zone)),
            tickets: booking
                .tickets
                .iter()
                .zip(1..)
                .map(|(ticket, number)| TicketView {
                    number,
                    ticket_type: text::line(&ticket.ticket_type),
                    seat: ticket.seat.as_deref().map(text::line),
                    code: text::line(&ticket.code),
                    content_id: format!("ticket-{number}.{}@{domain}", mail.id),
                })
                .collect(),
            url: format!("{}/v1/bookings/{}", mail.snapshot.base_url, booking.id),
        }
    }
}

/// A place on the waitlist as every mail about one shows it.
pub(super) struct WaitView {
    pub title: String,
    pub when: String,
    pub venue: String,
    pub address: String,
    pub ticket_type: String,
    pub quantity: i64,
    /// What one ticket of an offer costs, and all of them.
    pub price: String,
    pub total: String,
    /// Until when an offer stands, on the venue's clocks, and how long that is.
    pub until: String,
    /// The same moment for readers elsewhere.
    pub until_utc: String,
    pub window: String,
    /// Where an offer is looked at, claimed and declined.
    pub url: String,
    /// Where all of the reader's places of the event are given up.
    pub leave_url: String,
}

impl WaitView {
    /// `token` is that of the offer, if there is one.
    pub(super) fn new(mail: &LeasedMail, wait: &WaitSnapshot, token: &str) -> Self {
        let unit_price = wait.unit_price.unwrap_or(0);
        let money = |amount| Money::new(amount, &wait.currency).to_string();
        let zone = &wait.venue.timezone;
        let address = [&wait.venue.address, &wait.venue.city, &wait.venue.country];
        let address = address.map(|part| text::line(part)).into_iter().filter(|part| !part.is_empty());
        let window = wait.offered_at.zip(wait.expires_at).map(|(from, until)| until - from);
        Self {
            title: text::line(&wait.event.title),
            when: text::period(wait.event.starts_at, wait.event.ends_at, zone),
            venue: text::line(&wait.venue.name),
            address: address.collect::<Vec<_>>().join(", "),
            ticket_type: text::line(&wait.ticket_type),
            quantity: wait.quantity,
            price: money(unit_price),
            total: money(unit_price.saturating_mul(wait.quantity)),
            until: wait.expires_at.map_or_else(String::new, |at| text::moment(at, zone)),
            until_utc: wait
                .expires_at
                .map_or_else(String::new, |at| at.format("%-d %B %Y, %H:%M UTC").to_string()),
            window: text::span(window.unwrap_or_default()),
            url: format!("{}/v1/offers/{token}", mail.snapshot.base_url),
            leave_url: format!("{}/v1/events/{}/waitlist/me", mail.snapshot.base_url, wait.event.id),
        }
    }
}

/// How long a code is good for, as the mail that brings it says.
pub(super) fn minutes_good(mail: &LeasedMail) -> Option<i64> {
    mail.deadline
        .map(|deadline| (deadline - mail.due_at + Duration::seconds(30)).num_minutes())
        .filter(|m| *m > 0)
}

/// A code, and how long it is good for in minutes.
pub(super) struct CodeView {
    pub code: String,
    pub minutes_good: Option<i64>,
}

/// A payment that came to nothing.
pub(super) struct PaymentView {
    pub title: String,
    pub amount: String,
}

macro_rules! pages {
    ($($page:ident shows $view:ident from $path:literal;)*) => {$(
        #[derive(Template)]
        #[template(path = $path)]
        pub(super) struct $page<'a> {
            pub view: &'a $view,
        }
    )*};
}

pages! {
    VerifyEmailText shows CodeView from "verify_email.txt";
    VerifyEmailHtml shows CodeView from "verify_email.html";
    ResetPasswordText shows CodeView from "reset_password.txt";
    ResetPasswordHtml shows CodeView from "reset_password.html";
    BookingConfirmedText shows BookingView from "booking_confirmed.txt";
    BookingConfirmedHtml shows BookingView from "booking_confirmed.html";
    BookingCancelledText shows BookingView from "booking_cancelled.txt";
    BookingCancelledHtml shows BookingView from "booking_cancelled.html";
    EventCancelledText shows BookingView from "event_cancelled.txt";
    EventCancelledHtml shows BookingView from "event_cancelled.html";
    BookingRefundedText shows BookingView from "booking_refunded.txt";
    BookingRefundedHtml shows BookingView from "booking_refunded.html";
    PaymentVoidedText shows PaymentView from "payment_voided.txt";
    PaymentVoidedHtml shows PaymentView from "payment_voided.html";
    WaitlistOfferText shows WaitView from "waitlist_offer.txt";
    WaitlistOfferHtml shows WaitView from "waitlist_offer.html";
    WaitlistOfferExpiredText shows WaitView from "waitlist_offer_expired.txt";
    WaitlistOfferExpiredHtml shows WaitView from "waitlist_offer_expired.html";
    WaitlistEndedText shows WaitView from "waitlist_ended.txt";
    WaitlistEndedHtml shows WaitView from "waitlist_ended.html";
}
