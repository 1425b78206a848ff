//! Prices that move by rules: the rules, the history of prices, and what other rules would have done.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use domain::{
    invalid,
    pricing::{
        self, HistoryError, HistoryFilter, PriceChange, Pricing, PricingRules, SimulateError, Simulation,
    },
};
use serde::{Deserialize, Serialize};
use utoipa::{IntoParams, ToSchema};
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    App, AppState,
    caller::Organizer,
    error::{ApiError, ApiResult, Code, FieldError},
    extract::{IfMatch, Path, Query, Unchecked, etag, none_match},
    listing::{invalid_cursor, limit, next_link},
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(read, replace)).routes(routes!(history)).routes(routes!(simulate))
}

/// How an event's prices move
///
/// Rules that nobody has written yet are off and have version 0.
#[utoipa::path(get, path = "/v1/admin/events/{id}/pricing", tag = "Admin: insight", operation_id = "pricing",
    security(("bearer" = [])), params(("id" = Uuid, Path, description = "The event")),
    responses((status = OK, description = "The rules", body = PricingRules,
        headers(("ETag" = String, description = "Their version")))))]
async fn read(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(event_id): Path<Uuid>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let found = pricing::read(&app.db, caller.editor(), event_id).await?;
    let pricing = found.ok_or_else(ApiError::not_found)?;
    let tag = etag(pricing.version);
    if none_match(&headers, &tag) {
        return Ok((StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response());
    }
    Ok(answer(pricing))
}

/// Let an event's prices move
///
/// While the rules are `enabled` and the event is on sale, the price of each ticket type is evaluated at each interval,
/// the first time one interval after the start of sales or of the rules. What the rules that apply say of the base price
/// is summed up; then come floor and ceiling, which no price is outside of once it is evaluated, then the cool-down, the
/// largest step, and the rounding. A price that cannot be reached within all of these stays.
///
/// A new base price is the price from then on, and the rules go on from there. Holds and offers keep the price that they
/// were quoted.
#[utoipa::path(put, path = "/v1/admin/events/{id}/pricing", tag = "Admin: insight",
    operation_id = "replace_pricing", security(("bearer" = [])), request_body = PricingRules,
    params(
        ("id" = Uuid, Path, description = "The event"),
        ("If-Match" = String, Header, description = "The rules' own tag; `\"v0\"` where there are none"),
    ),
    extensions(("x-problems" = json!(["invalid-state"]))),
    responses((status = OK, description = "The rules as they are now", body = PricingRules,
        headers(("ETag" = String, description = "Their version")))))]
async fn replace(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(event_id): Path<Uuid>,
    IfMatch(expected): IfMatch,
    Unchecked(rules): Unchecked<PricingRules>,
) -> ApiResult<Response> {
    Ok(answer(pricing::replace(&app.db, caller.editor(), event_id, expected, rules).await?))
}

fn answer(pricing: Pricing) -> Response {
    ([(header::ETAG, etag(pricing.version))], Json(pricing.rules)).into_response()
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct HistoryQuery {
    /// Of this ticket type only.
    ticket_type_id: Option<Uuid>,
    /// How many; 20 unless given.
    #[param(minimum = 1, maximum = 100)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters.
    cursor: Option<String>,
}

#[derive(Serialize, ToSchema)]
struct PriceHistory {
    data: Vec<PriceChange>,
    /// Opens the next page; null on the last.
    next_cursor: Option<String>,
}

/// Every change of an event's prices
///
/// Newest first, by the rules with what they saw and what each of them made of it, and by hand with who it was.
#[utoipa::path(get, path = "/v1/admin/events/{id}/price_history", tag = "Admin: insight",
    operation_id = "price_history", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), HistoryQuery),
    responses((status = OK, description = "A page", body = PriceHistory,
        headers(("Link" = Option<String>, description = "`rel=\"next\"`, unless it is the last page")))))]
async fn history(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(event_id): Path<Uuid>,
    uri: Uri,
    Query(query): Query<HistoryQuery>,
) -> ApiResult<Response> {
    let filter = HistoryFilter { event_id, ticket_type_id: query.ticket_type_id };
    let (limit, cursor) = (limit(query.limit)?, query.cursor.as_deref());
    let page = pricing::page(&app.db, caller.editor(), filter, limit, cursor).await?;
    let links = next_link(&uri, page.next_cursor.as_deref());
    Ok((links, Json(PriceHistory { data: page.data, next_cursor: page.next_cursor })).into_response())
}

impl From<HistoryError> for ApiError {
    fn from(error: HistoryError) -> Self {
        match error {
            HistoryError::NotFound => Self::not_found(),
            HistoryError::InvalidCursor(_) => invalid_cursor(),
            HistoryError::Fault(fault) => fault.into(),
        }
    }
}

/// What other rules would have done
///
/// Plays the event's sale again under the rules of the body, `enabled` or not, and answers the prices and the revenue
/// beside what they were. Everybody buys what they bought, when they bought it: how demand would have answered to other
/// prices is not guessed. What is sold at each moment is counted anew from the booking log; holds, the waitlist and
/// capacities are as the evaluations of that time saw them, and new base prices are set as they were. Where the interval
/// is that of the event's own rules, prices are evaluated when they really were, and the event's own rules give the actual
/// prices; otherwise at each interval from the start of sales on. Nothing is written.
#[utoipa::path(post, path = "/v1/admin/events/{id}/pricing/simulate", tag = "Admin: insight",
    operation_id = "simulate_pricing", security(("bearer" = [])), request_body = PricingRules,
    params(("id" = Uuid, Path, description = "The event")),
    responses((status = OK, description = "What was, and what would have been", body = Simulation)))]
async fn simulate(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(event_id): Path<Uuid>,
    Unchecked(rules): Unchecked<PricingRules>,
) -> ApiResult<Json<Simulation>> {
    Ok(Json(pricing::simulate(&app.db, caller.editor(), event_id, rules).await?))
}

impl From<SimulateError> for ApiError {
    fn from(error: SimulateError) -> Self {
        match error {
            SimulateError::NotFound => Self::not_found(),
            SimulateError::Invalid(errors) => {
                Self::fields(errors.into_iter().map(FieldError::from).collect())
            }
            SimulateError::Busy => {
                Self::new(Code::Unavailable, "As many simulations run as may at once.").retry_after(5)
            }
            SimulateError::Fault(fault) => fault.into(),
        }
    }
}

impl From<invalid::FieldError> for FieldError {
    fn from(error: invalid::FieldError) -> Self {
        Self { pointer: error.pointer, detail: error.detail }
    }
}
