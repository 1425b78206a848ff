//! Offers of the waitlist, by the token that was mailed. Whoever has the token acts for the one it was mailed to; an
//! access token, where one is sent as well, must be theirs.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, header},
    response::{IntoResponse, Response},
};
use domain::waitlist::{self, ClaimError, Offer, OfferError, OfferStatus};
use utoipa_axum::{router::OpenApiRouter, routes};

use super::{bookings::tagged, holds::HoldView, waitlist::pass_on};
use crate::{
    App, AppState,
    caller::Caller,
    error::{ApiError, ApiResult, Code},
    extract::{NoBody, Path},
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read)).routes(routes!(claim)).routes(routes!(decline))
}

/// An offer
///
/// Reading it changes nothing, however often.
#[utoipa::path(get, path = "/v1/offers/{token}", tag = "Waitlist", operation_id = "read_offer",
    security((), ("bearer" = [])), params(("token" = String, Path, description = "As it was mailed")),
    responses((status = OK, description = "What is offered, until when", body = Offer,
        headers(("ETag" = String, description = "Changes with the offer's status")))),
    extensions(("x-problems" = json!(["offer-expired"]))))]
async fn read(
    State(app): AppState,
    caller: Option<Caller>,
    Path(token): Path<String>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let offer = waitlist::find(&mut *app.db.conn().await?, &token).await?;
    if caller.is_some_and(|caller| caller.id() != offer.user_id) {
        return Err(ApiError::not_found());
    }
    match offer.status {
        OfferStatus::Open if !offer.overdue => {}
        OfferStatus::Claimed | OfferStatus::Sold => {}
        _ => return Err(Code::OfferExpired.into()),
    }
    Ok(tagged(&headers, &offer))
}

/// Claim an offer
///
/// Its seats become a hold, to be confirmed like any other. Claiming it again answers the same hold with 200.
#[utoipa::path(post, path = "/v1/offers/{token}/claim", tag = "Waitlist", operation_id = "claim_offer",
    security((), ("bearer" = [])), params(("token" = String, Path, description = "As it was mailed")),
    responses(
        (status = CREATED, description = "The hold", body = HoldView,
         headers(("Location" = String, description = "The hold"))),
        (status = OK, description = "The hold of an earlier claim", body = HoldView),
    ),
    extensions(("x-problems" = json!(["offer-expired", "limit-exceeded", "inventory-rebuilding"]))))]
async fn claim(
    State(app): AppState,
    caller: Option<Caller>,
    Path(token): Path<String>,
    _: NoBody,
) -> ApiResult<Response> {
    let user_id = caller.map(|caller| caller.id());
    let claimed = waitlist::claim(&app.db, &app.inventory, &token, user_id).await?;
    let view = HoldView::new(&claimed.hold, &app.hold_tokens);
    if !claimed.first {
        return Ok(Json(view).into_response());
    }
    let location = format!("/v1/events/{}/holds/{}", claimed.hold.event_id, claimed.hold.id);
    Ok((StatusCode::CREATED, [(header::LOCATION, location)], Json(view)).into_response())
}

/// Decline an offer
///
/// Takes you off the list and lets the next one have the seats. Mail clients call it for one-click unsubscription
/// (RFC 8058), so whatever stands in the body is ignored.
#[utoipa::path(post, path = "/v1/offers/{token}/decline", tag = "Waitlist", operation_id = "decline_offer",
    security((), ("bearer" = [])), params(("token" = String, Path, description = "As it was mailed")),
    responses((status = NO_CONTENT, description = "It is declined")),
    extensions(("x-problems" = json!(["offer-expired"]))))]
async fn decline(
    State(app): AppState,
    caller: Option<Caller>,
    Path(token): Path<String>,
) -> ApiResult<StatusCode> {
    let user_id = caller.map(|caller| caller.id());
    let event_id = waitlist::find(&mut *app.db.conn().await?, &token).await?.event_id;
    let ended = waitlist::decline(&app.db, &token, user_id).await?;
    pass_on(&app, event_id, ended).await;
    Ok(StatusCode::NO_CONTENT)
}

impl From<OfferError> for ApiError {
    fn from(error: OfferError) -> Self {
        match error {
            OfferError::NotFound => Self::not_found(),
            OfferError::Over => Code::OfferExpired.into(),
            OfferError::Fault(fault) => fault.into(),
        }
    }
}

impl From<ClaimError> for ApiError {
    fn from(error: ClaimError) -> Self {
        match error {
            ClaimError::NotFound => Self::not_found(),
            ClaimError::Over => Code::OfferExpired.into(),
            ClaimError::LimitExceeded => Code::LimitExceeded.into(),
            ClaimError::Rebuilding => Code::InventoryRebuilding.into(),
            ClaimError::Fault(fault) => fault.into(),
        }
    }
}
