//! Confirming a hold: the one route that waits for a job.

use std::{sync::Arc, time::Duration};

use axum::{
    Json,
    extract::State,
    http::{StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::{
    bookings::{self, Booking, BookingStatus, Failure, results::Wait},
    fault::Fault,
    holds::{
        BeginConfirm, BeginConfirmError, ConfirmStart, ConfirmingHold, HoldClaims, HoldStatus, PaymentChoice,
        begin_confirm, load_confirming,
    },
    jobs::ConfirmBooking,
    kill_point::kill_point,
    payments::{Provider, actions},
};
use garde::Validate;
use serde::Deserialize;
use tokio::time::Instant;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    App, AppState,
    caller::Caller,
    error::{ApiError, ApiResult, Code},
    extract::{Body, Path},
    middleware::aside,
    prefer::PreferWait,
};

/// How often a waiting request looks for itself: a message that comes makes it needless, one that is lost does not
/// keep it for longer.
const LOOK: Duration = Duration::from_secs(1);

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(confirm))
}

/// With what to pay, and the proof of the hold
#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct ConfirmRequest {
    /// Not needed when the total is 0.
    #[garde(dive)]
    payment: Option<PaymentRequest>,
    /// The hold's own token: with it the hold is honoured even if we lost it.
    #[garde(length(min = 1, max = 16_384))]
    hold_token: Option<String>,
}

#[derive(Deserialize, Validate, ToSchema)]
#[serde(deny_unknown_fields)]
struct PaymentRequest {
    #[garde(custom(is_provider))]
    #[schema(example = "sandbox")]
    provider: String,
    /// What the provider gave for the card. Of the sandbox: `tok_ok`, `tok_declined`, `tok_timeout`, `tok_slow`.
    #[garde(custom(is_token))]
    #[schema(min_length = 1, max_length = 255, example = "tok_ok")]
    token: String,
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that garde calls")]
fn is_provider(provider: &str, (): &()) -> garde::Result {
    match provider {
        "sandbox" | "stripe" => Ok(()),
        _ => Err(garde::Error::new("is no payment provider: sandbox or stripe")),
    }
}

#[expect(clippy::trivially_copy_pass_by_ref, reason = "the shape that garde calls")]
fn is_token(token: &str, (): &()) -> garde::Result {
    if (1..=255).contains(&token.len()) && token.bytes().all(|byte| byte.is_ascii_graphic()) {
        Ok(())
    } else {
        Err(garde::Error::new("must be 1 to 255 visible ASCII characters"))
    }
}

/// Confirm a hold
///
/// Pays and books it. Repeating it is safe: a hold becomes one booking. The answer comes as soon as there is one;
/// after `Prefer: wait` seconds it is 202, and the booking is found at its `Location`. A declined payment leaves the
/// hold as it was until its deadline: confirm it again with another one. Where the customer has to approve the payment,
/// the answer is 202 with `payment.action`; the booking goes on by itself once that is done.
#[utoipa::path(post, path = "/v1/events/{id}/holds/{hold_id}/confirm", tag = "Holds",
    operation_id = "confirm_hold", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), ("hold_id" = Uuid, Path, description = "The hold"),
           ("Prefer" = Option<String>, Header, description = "`wait=N`, 0 to 30 seconds; 10 unless given")),
    request_body = ConfirmRequest,
    responses(
        (status = CREATED, description = "The booking, for good", body = Booking,
         headers(("Location" = String, description = "The booking"),
                 ("Preference-Applied" = Option<String>, description = "`wait=N`, if it was given"))),
        (status = ACCEPTED, description = "It is under way: look at its `Location`", body = Booking,
         headers(("Location" = String, description = "The booking"),
                 ("Preference-Applied" = Option<String>, description = "`wait=N`, if it was given"))),
    ),
    extensions(("x-problems" = json!(["payment-declined", "hold-expired", "hold-token-invalid", "sold-out",
        "sale-closed", "inventory-rebuilding"]))))]
async fn confirm(
    State(app): AppState,
    caller: Caller,
    Path((event_id, hold_id)): Path<(Uuid, Uuid)>,
    wait: PreferWait,
    Body(body): Body<ConfirmRequest>,
) -> ApiResult<Response> {
    let user_id = caller.id();
    if body.payment.as_ref().is_some_and(|payment| !app.payments.takes(&payment.provider)) {
        return Err(ApiError::field("/payment/provider", "is not configured here"));
    }
    let token = body.hold_token.map(|text| claims(&app, &text, event_id, hold_id, user_id)).transpose()?;
    let deadline = Instant::now() + wait.duration();
    // Before it begins, or the result might be there before anybody waits.
    let mut result = app.results.wait_for(hold_id);
    let request = BeginConfirm {
        event_id,
        hold_id,
        user_id,
        payment: body
            .payment
            .map(|payment| PaymentChoice { provider: payment.provider, token: payment.token }),
        reply_to: app.results.reply_to().to_owned(),
        token,
    };
    let start = begin_confirm(&app.inventory, &app.db, &request).await.map_err(refusal)?;
    kill_point("confirm.begun");
    let attempt = match start {
        ConfirmStart::Started { attempt } | ConfirmStart::Running { attempt } => {
            let job = ConfirmBooking { event_id, hold_id, attempt };
            if let Err(error) = app.queue.enqueue(&job).await {
                // It has begun and will end: holds without a result are enqueued again.
                tracing::warn!(%error, %hold_id, "could not enqueue a confirm");
            }
            attempt
        }
        ConfirmStart::Confirmed => 0,
    };
    kill_point("confirm.enqueued");
    let sought = Sought { event_id, hold_id, user_id, attempt };
    let booking = match start {
        ConfirmStart::Confirmed => look(&app, sought).await?,
        _ => outcome(&app, sought, &mut result, deadline).await,
    };
    Ok((wait.applied(), answer(&app, sought, booking).await?).into_response())
}

/// The claims of a hold token, if it is this very hold's and the caller's.
fn claims(app: &App, text: &str, event_id: Uuid, hold_id: Uuid, user_id: Uuid) -> ApiResult<HoldClaims> {
    let claims = app.hold_tokens.verify(text).map_err(|_| Code::HoldTokenInvalid)?;
    let hold = claims.hold();
    if (hold.event_id, hold.id, hold.user_id) == (event_id, hold_id, user_id) {
        Ok(claims)
    } else {
        Err(Code::HoldTokenInvalid.into())
    }
}

fn refusal(error: BeginConfirmError) -> ApiError {
    match error {
        BeginConfirmError::NotFound => ApiError::not_found(),
        BeginConfirmError::Expired => Code::HoldExpired.into(),
        BeginConfirmError::PaymentRequired => ApiError::field("/payment", "is needed: the order is not free"),
        BeginConfirmError::SoldOut => Code::SoldOut.into(),
        BeginConfirmError::SaleClosed => Code::SaleClosed.into(),
        BeginConfirmError::Rebuilding => Code::InventoryRebuilding.into(),
        BeginConfirmError::Fault(fault) => fault.into(),
    }
}

/// Whose confirm is waited for, and which.
#[derive(Clone, Copy)]
struct Sought {
    event_id: Uuid,
    hold_id: Uuid,
    user_id: Uuid,
    attempt: u32,
}

/// What becomes of a confirm, as far as it is known when the time is over.
async fn outcome(app: &App, sought: Sought, result: &mut Wait, deadline: Instant) -> Option<Booking> {
    loop {
        let left = deadline.saturating_duration_since(Instant::now());
        let (result, _) = aside(result.within(left.min(LOOK))).await;
        if let Some(booking) = result {
            return Some(Booking::clone(&booking));
        }
        // An outage is no answer: the confirm goes on, and so does the wait.
        if let Ok(Some(booking)) = look(app, sought).await {
            return Some(booking);
        }
        if left.is_zero() {
            return None;
        }
    }
}

/// The booking, if this confirm has ended.
async fn look(app: &App, sought: Sought) -> Result<Option<Booking>, Fault> {
    let hold = domain::holds::read(&app.inventory, sought.event_id, sought.hold_id).await?;
    if hold.is_some_and(|hold| hold.status == HoldStatus::Confirming) {
        return Ok(None);
    }
    let kept = bookings::read(&mut *app.db.conn().await?, sought.hold_id, Some(sought.user_id)).await?;
    let ended =
        kept.filter(|kept| kept.booking.status != BookingStatus::Failed || kept.attempt >= sought.attempt);
    Ok(ended.map(|kept| kept.booking))
}

/// A booking that is being confirmed, as its hold tells of it, and what its customer has to do for it. Where Postgres
/// does not answer it is shown without that: it is under way all the same.
pub(super) async fn under_way(
    app: &App,
    event_id: Uuid,
    hold_id: Uuid,
    user_id: Uuid,
) -> Result<Option<Booking>, Fault> {
    let found = load_confirming(&app.inventory, &[(event_id, hold_id)]).await?.pop().flatten();
    let Some(ConfirmingHold { hold, payment, .. }) = found.filter(|found| found.hold.user_id == user_id)
    else {
        return Ok(None);
    };
    let booking = Booking::confirming(&hold);
    // No other provider asks customers for anything.
    if payment.is_none_or(|payment| payment.provider != Provider::Stripe.name()) {
        return Ok(Some(booking));
    }
    let asked = tokio::time::timeout(LOOK, actions::of_booking(&app.db, hold_id)).await;
    Ok(Some(match asked {
        Ok(Ok(Some((provider, action)))) => booking.waiting_for(&provider, action),
        _ => booking,
    }))
}

async fn answer(app: &App, sought: Sought, booking: Option<Booking>) -> ApiResult<Response> {
    let location = [(header::LOCATION, format!("/v1/bookings/{}", sought.hold_id))];
    let Some(booking) = booking else {
        let booking = under_way(app, sought.event_id, sought.hold_id, sought.user_id).await?;
        // Lost with Redis in this very moment: the same request with the hold token goes on.
        let booking = booking.ok_or(Code::Unavailable)?;
        return Ok((StatusCode::ACCEPTED, location, Json(booking)).into_response());
    };
    if booking.status == BookingStatus::Confirming {
        return Ok((StatusCode::ACCEPTED, location, Json(booking)).into_response());
    }
    match booking.failed_with() {
        None => Ok((StatusCode::CREATED, location, Json(booking)).into_response()),
        Some(Failure::PaymentDeclined) => Err(Code::PaymentDeclined.into()),
        Some(Failure::SoldOut) => Err(ApiError::new(
            Code::SoldOut,
            "The seats were gone before the booking could be committed. Nothing was charged.",
        )),
        Some(Failure::SaleClosed) => Err(Code::SaleClosed.into()),
        Some(Failure::HoldExpired) => Err(Code::HoldExpired.into()),
        Some(Failure::Internal) => Err(Code::Internal.into()),
    }
}
