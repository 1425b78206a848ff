//! The wire format between versions of Evently that run side by side, and that every payload in it has a handler.

use std::fmt::Debug;

use domain::jobs::{
    self, CancelEventBookings, CapturePayment, ConfirmBooking, ExpireHolds, Job, PayRefund, Pool,
    PromoteWaitlist, RefreshPayment, RepriceEvent, SendMail, SyncInventory, VoidPayment,
};
use queue::Envelope;
use uuid::Uuid;

const A: Uuid = Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_000a);
const B: Uuid = Uuid::from_u128(0x0193_0000_0000_7000_8000_0000_0000_000b);

/// Asserts that a payload is what it was: its id, and its JSON, in both directions.
fn frozen<J: Job + Debug + PartialEq>(job: &J, id: &str, json: &str) -> (Pool, &'static str) {
    assert_eq!(Envelope::new(job).unwrap().id, id);
    assert_eq!(serde_json::to_string(job).unwrap(), json);
    assert_eq!(&serde_json::from_str::<J>(json).unwrap(), job);
    (J::POOL, J::NAME)
}

/// A red line here means that jobs which are in a queue while Evently is being updated would get lost.
#[test]
fn payloads_are_frozen() {
    let mut seen = [
        frozen(
            &ConfirmBooking { event_id: A, hold_id: B, attempt: 2 },
            "confirm_booking:01930000-0000-7000-8000-00000000000b:2",
            r#"{"event_id":"01930000-0000-7000-8000-00000000000a","hold_id":"01930000-0000-7000-8000-00000000000b","attempt":2}"#,
        ),
        frozen(
            &CapturePayment { payment_id: A },
            "capture_payment:01930000-0000-7000-8000-00000000000a",
            r#"{"payment_id":"01930000-0000-7000-8000-00000000000a"}"#,
        ),
        frozen(
            &VoidPayment { payment_id: A },
            "void_payment:01930000-0000-7000-8000-00000000000a",
            r#"{"payment_id":"01930000-0000-7000-8000-00000000000a"}"#,
        ),
        frozen(
            &PayRefund { refund_id: A },
            "pay_refund:01930000-0000-7000-8000-00000000000a",
            r#"{"refund_id":"01930000-0000-7000-8000-00000000000a"}"#,
        ),
        frozen(
            &RefreshPayment { payment_id: A },
            "refresh_payment:01930000-0000-7000-8000-00000000000a",
            r#"{"payment_id":"01930000-0000-7000-8000-00000000000a"}"#,
        ),
        frozen(
            &CancelEventBookings { event_id: A },
            "cancel_event_bookings:01930000-0000-7000-8000-00000000000a",
            r#"{"event_id":"01930000-0000-7000-8000-00000000000a"}"#,
        ),
        frozen(
            &ExpireHolds { event_id: A, due_second: 1_800_000_000 },
            "expire_holds:01930000-0000-7000-8000-00000000000a:1800000000",
            r#"{"event_id":"01930000-0000-7000-8000-00000000000a","due_second":1800000000}"#,
        ),
        frozen(
            &SendMail { mail_id: A },
            "send_mail:01930000-0000-7000-8000-00000000000a",
            r#"{"mail_id":"01930000-0000-7000-8000-00000000000a"}"#,
        ),
        frozen(
            &PromoteWaitlist { event_id: A },
            "promote_waitlist:01930000-0000-7000-8000-00000000000a",
            r#"{"event_id":"01930000-0000-7000-8000-00000000000a"}"#,
        ),
        frozen(
            &RepriceEvent { event_id: A, due_second: 1_800_000_000 },
            "reprice_event:01930000-0000-7000-8000-00000000000a:1800000000",
            r#"{"event_id":"01930000-0000-7000-8000-00000000000a","due_second":1800000000}"#,
        ),
        frozen(
            &SyncInventory { event_id: A },
            "sync_inventory:01930000-0000-7000-8000-00000000000a",
            r#"{"event_id":"01930000-0000-7000-8000-00000000000a"}"#,
        ),
    ];
    seen.sort_unstable();
    assert_eq!(seen.as_slice(), all(), "every payload is frozen here");
}

#[test]
fn every_payload_has_a_handler_in_its_pool() {
    let mut registered = workers::registered();
    registered.sort_unstable();
    assert_eq!(registered, all());
    for pool in Pool::ALL {
        assert_eq!(workers::spec(pool).pool, pool);
    }
}

#[test]
fn names_are_unique() {
    let mut names: Vec<_> = jobs::ALL.iter().map(|(_, name)| name).collect();
    names.sort_unstable();
    names.dedup();
    assert_eq!(names.len(), jobs::ALL.len());
}

#[test]
fn the_envelope_is_frozen() {
    let plain = Envelope::new(&SendMail { mail_id: A }).unwrap();
    let json = r#"{"v":1,"job":"send_mail","payload":{"mail_id":"01930000-0000-7000-8000-00000000000a"}}"#;
    assert_eq!(serde_json::to_string(&plain).unwrap(), json);
    assert_eq!(plain.pool, Pool::Email);

    let traced = Envelope {
        traceparent: Some("00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01".to_owned()),
        outbox_id: Some(B),
        ..plain
    };
    let json = r#"{"v":1,"job":"send_mail","payload":{"mail_id":"01930000-0000-7000-8000-00000000000a"},"traceparent":"00-0af7651916cd43dd8448eb211c80319c-b7ad6b7169203331-01","outbox_id":"01930000-0000-7000-8000-00000000000b"}"#;
    assert_eq!(serde_json::to_string(&traced).unwrap(), json);

    let read: Envelope = serde_json::from_str(json).unwrap();
    assert_eq!((read.v, read.job.as_str(), read.payload.get()), (1, "send_mail", traced.payload.get()));
    assert_eq!((read.traceparent, read.outbox_id), (traced.traceparent, Some(B)));
}

fn all() -> Vec<(Pool, &'static str)> {
    let mut all = jobs::ALL.to_vec();
    all.sort_unstable();
    all
}
