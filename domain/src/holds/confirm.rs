//! The way of a hold through its confirm: begin, load, settle, and finding those that got stuck.

use uuid::Uuid;

use super::{Hold, HoldClaims, HoldStatus, encode_items, parse_read, read_call};
use crate::{
    bookings::{self, BookingStatus},
    db::Db,
    fault::Fault,
    inventory::{BuyerSnapshot, Call, Inventory, Keys, Reply, Script, SeatSnapshot, SyncError, ensure_ready},
    kill_point::kill_point,
};

/// How long it is remembered which event a booking under way belongs to, in seconds.
const POINTER_SECS: u64 = 86_400;

/// With what a booking is to be paid.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct PaymentChoice {
    /// Letters only: `sandbox`, `stripe`.
    pub provider: String,
    pub token: String,
}

/// A wish to turn a hold into a booking.
#[derive(Clone, Debug)]
pub struct BeginConfirm {
    pub event_id: Uuid,
    pub hold_id: Uuid,
    pub user_id: Uuid,
    pub payment: Option<PaymentChoice>,
    /// Who waits for the result: the channel of an API process; no commas. Empty: nobody.
    pub reply_to: String,
    /// The verified token of this very hold and user, if the client sent it.
    pub token: Option<HoldClaims>,
}

/// How a confirm stands after it was asked for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ConfirmStart {
    /// It has begun: the caller enqueues `ConfirmBooking` with this attempt.
    Started { attempt: u32 },
    /// It was under way already; enqueueing the same job again does no harm.
    Running { attempt: u32 },
    /// It is a booking.
    Confirmed,
}

#[derive(Debug, thiserror::Error)]
pub enum BeginConfirmError {
    /// Unknown or another user's, and no token was given.
    #[error("there is no such hold")]
    NotFound,
    #[error("the hold is over")]
    Expired,
    #[error("a priced order needs a payment")]
    PaymentRequired,
    /// The hold was lost and its seats are gone.
    #[error("the seats of a hold that was lost are taken")]
    SoldOut,
    /// The hold was lost and the event is not on sale any more.
    #[error("the event is not on sale")]
    SaleClosed,
    #[error("the inventory is being rebuilt")]
    Rebuilding,
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Moves a hold to `confirming`, from where no deadline takes it. A hold that Redis lost is taken again from its
/// token. Safe to repeat.
pub async fn begin_confirm(
    inventory: &Inventory,
    db: &Db,
    request: &BeginConfirm,
) -> Result<ConfirmStart, BeginConfirmError> {
    // First, so that whoever is told of a booking under way can find it.
    let _: () = redis::cmd("SET")
        .arg(pointer(request.hold_id))
        .arg(request.event_id.to_string())
        .arg("EX")
        .arg(POINTER_SECS)
        .query_async(&mut inventory.connection())
        .await
        .map_err(Fault::from)?;
    kill_point("confirm.pointed");
    let begun = match begin_once(inventory, request).await {
        Err(BeginConfirmError::Rebuilding) => {
            ensure_ready(inventory, db, request.event_id).await.map_err(|error| match error {
                SyncError::UnknownEvent => BeginConfirmError::NotFound,
                SyncError::Rebuilding => BeginConfirmError::Rebuilding,
                SyncError::Fault(fault) => BeginConfirmError::Fault(fault),
            })?;
            begin_once(inventory, request).await
        }
        other => other,
    };
    match begun {
        // What Redis lost, or has forgotten since, may be a booking: then its deadline and the seats that are left
        // say nothing.
        Err(
            BeginConfirmError::NotFound
            | BeginConfirmError::Expired
            | BeginConfirmError::SoldOut
            | BeginConfirmError::SaleClosed,
        ) if is_booked(db, request).await? => Ok(ConfirmStart::Confirmed),
        other => other,
    }
}

async fn is_booked(db: &Db, request: &BeginConfirm) -> Result<bool, Fault> {
    let kept = bookings::read(&mut *db.conn().await?, request.hold_id, Some(request.user_id)).await?;
    let booking = kept.map(|kept| kept.booking).filter(|booking| booking.event_id == request.event_id);
    Ok(booking.is_some_and(|booking| booking.status != BookingStatus::Failed))
}

async fn begin_once(
    inventory: &Inventory,
    request: &BeginConfirm,
) -> Result<ConfirmStart, BeginConfirmError> {
    let keys = Keys::of(request.event_id);
    let payment = request
        .payment
        .as_ref()
        .map_or(String::new(), |choice| format!("{}:{}", choice.provider, choice.token));
    let mut call = Call::new(Script::BeginConfirm)
        .key(keys.inventory())
        .key(keys.holds())
        .key(keys.confirming())
        .key(keys.hold(request.hold_id))
        .key(keys.user_held())
        .arg(request.hold_id.to_string())
        .arg(request.user_id.to_string())
        .arg(payment)
        .arg(&request.reply_to)
        .arg(match &request.token {
            None => 0,
            Some(claims) if claims.is_late() => 2,
            Some(_) => 1,
        });
    if let Some(claims) = &request.token {
        let hold = claims.hold();
        call.push(encode_items(claims.items()));
        call.push(hold.total);
        call.push(&hold.currency);
        call.push(hold.created_at.timestamp_millis());
        call.push(hold.expires_at.timestamp_millis());
        call.push(hold.quantity());
        call.push(u8::from(hold.offered));
    }
    let mut reply = Reply::new(inventory.run(call).await?)?;
    let attempt =
        |reply: &mut Reply| u32::try_from(reply.int()?).map_err(|error| Fault::Corrupt(error.to_string()));
    match reply.text()?.as_str() {
        "started" => Ok(ConfirmStart::Started { attempt: attempt(&mut reply)? }),
        "running" => Ok(ConfirmStart::Running { attempt: attempt(&mut reply)? }),
        "confirmed" => Ok(ConfirmStart::Confirmed),
        "not_found" => Err(BeginConfirmError::NotFound),
        "expired" => Err(BeginConfirmError::Expired),
        "payment_required" => Err(BeginConfirmError::PaymentRequired),
        "sold_out" => Err(BeginConfirmError::SoldOut),
        "sale_closed" => Err(BeginConfirmError::SaleClosed),
        "rebuilding" => Err(BeginConfirmError::Rebuilding),
        other => Err(Fault::Corrupt(format!("begin_confirm said {other}")).into()),
    }
}

/// A hold with what its job needs.
#[derive(Clone, Debug)]
pub struct ConfirmingHold {
    pub hold: Hold,
    /// Which confirm is under way, from 1.
    pub attempt: u32,
    pub payment: Option<PaymentChoice>,
    /// The channels of those who wait for the result.
    pub reply_to: Vec<String>,
    /// When this confirm began, in milliseconds of Redis's clock.
    pub confirming_since_ms: i64,
}

/// Reads holds, given as (event, hold), in one round trip and in that order. Whatever their status: the caller looks.
pub async fn load_confirming(
    inventory: &Inventory,
    wanted: &[(Uuid, Uuid)],
) -> Result<Vec<Option<ConfirmingHold>>, Fault> {
    let calls: Vec<_> = wanted.iter().map(|&(event_id, hold_id)| read_call(event_id, hold_id)).collect();
    let replies = inventory.run_all(&calls).await?;
    wanted
        .iter()
        .zip(replies)
        .map(|(&(event_id, hold_id), reply)| {
            let Some(record) = parse_read(event_id, hold_id, reply)? else { return Ok(None) };
            let payment = record.payment.split_once(':').map(|(provider, token)| PaymentChoice {
                provider: provider.to_owned(),
                token: token.to_owned(),
            });
            let reply_to = record.waiting.split(',').filter(|c| !c.is_empty()).map(str::to_owned).collect();
            Ok(Some(ConfirmingHold {
                hold: record.hold,
                attempt: record.attempt,
                payment,
                reply_to,
                confirming_since_ms: record.confirming_since_ms,
            }))
        })
        .collect()
}

/// What Postgres decided of a confirm.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Settled {
    /// It is a booking: the seats are sold.
    Confirmed,
    /// The payment was declined: the hold is `held` again until its deadline.
    Declined,
    /// There will be no booking: the seats go back.
    Failed,
}

/// Decisions of one event and the rows that they wrote.
#[derive(Clone, Debug, Default)]
pub struct Settlement {
    /// Hold, the attempt that was decided, and how.
    pub holds: Vec<(Uuid, u32, Settled)>,
    pub seats: Vec<SeatSnapshot>,
    pub buyers: Vec<BuyerSnapshot>,
}

/// Tells Redis what Postgres committed, in one script: each hold changes exactly once, each row only if it is not
/// older than the one there. Safe to repeat and to reorder. A refusal counts only for its own attempt.
pub async fn settle(inventory: &Inventory, event_id: Uuid, settlement: &Settlement) -> Result<(), Fault> {
    let keys = Keys::of(event_id);
    let mut call = Call::new(Script::Settle)
        .key(keys.inventory())
        .key(keys.holds())
        .key(keys.confirming())
        .key(keys.user_held())
        .key(keys.user_sold())
        .arg(settlement.holds.len());
    for (hold_id, attempt, outcome) in &settlement.holds {
        call.push(hold_id.to_string());
        call.push(match outcome {
            Settled::Confirmed => "confirmed",
            Settled::Declined => "declined",
            Settled::Failed => "failed",
        });
        call.push(*attempt);
    }
    call.push(settlement.seats.len());
    for row in &settlement.seats {
        row.push_to(&mut call);
    }
    call.push(settlement.buyers.len());
    for row in &settlement.buyers {
        row.push_to(&mut call);
    }
    inventory.run(call).await?;
    Ok(())
}

/// Holds of an event that have been `confirming` for longer than `older_than_ms`, the oldest first, with their
/// attempts: their jobs are to be enqueued again.
pub async fn stale_confirming(
    inventory: &Inventory,
    event_id: Uuid,
    older_than_ms: i64,
    limit: u32,
) -> Result<Vec<(Uuid, u32)>, Fault> {
    let mut connection = inventory.connection();
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await?;
    let before = seconds * 1000 + micros / 1000 - older_than_ms;
    let ids: Vec<String> = redis::cmd("ZRANGEBYSCORE")
        .arg(Keys::of(event_id).confirming())
        .arg("-inf")
        .arg(before)
        .arg("LIMIT")
        .arg(0)
        .arg(limit)
        .query_async(&mut connection)
        .await?;
    let wanted: Vec<_> =
        ids.iter().filter_map(|id| id.parse().ok()).map(|hold_id| (event_id, hold_id)).collect();
    let holds = load_confirming(inventory, &wanted).await?;
    Ok(holds
        .into_iter()
        .flatten()
        .filter(|loaded| loaded.hold.status == HoldStatus::Confirming)
        .map(|loaded| (loaded.hold.id, loaded.attempt))
        .collect())
}

/// A confirm of which nothing is to be expected for this long, since its customer is at work: until then it does not
/// count as stuck. What has ended meanwhile stays ended.
pub async fn postpone(
    inventory: &Inventory,
    event_id: Uuid,
    hold_id: Uuid,
    pause: std::time::Duration,
) -> Result<(), Fault> {
    let mut connection = inventory.connection();
    let (seconds, micros): (i64, i64) = redis::cmd("TIME").query_async(&mut connection).await?;
    let pause = i64::try_from(pause.as_millis()).unwrap_or(i64::MAX / 2);
    let () = redis::cmd("ZADD")
        .arg(Keys::of(event_id).confirming())
        .arg("XX")
        .arg(seconds * 1000 + micros / 1000 + pause)
        .arg(hold_id.to_string())
        .query_async(&mut connection)
        .await?;
    Ok(())
}

/// Which event a booking under way belongs to, for a day after its confirm began.
pub async fn event_of_booking(inventory: &Inventory, booking_id: Uuid) -> Result<Option<Uuid>, Fault> {
    let event: Option<String> =
        redis::cmd("GET").arg(pointer(booking_id)).query_async(&mut inventory.connection()).await?;
    Ok(event.and_then(|text| text.parse().ok()))
}

fn pointer(booking_id: Uuid) -> String {
    format!("booking:{booking_id}:event")
}
