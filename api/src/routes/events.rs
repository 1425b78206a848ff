//! Events as everybody reads them.

use std::sync::Arc;

use axum::{
    Json,
    extract::State,
    http::{HeaderMap, HeaderName, HeaderValue, StatusCode, Uri, header},
    response::{IntoResponse, Response},
};
use bytes::Bytes;
use chrono::{DateTime, Utc};
use domain::{
    accounts::Role,
    events::{
        Availability, CatalogError, Editor, Event, EventAnswer, EventFilter, EventList, FacetName,
        ListRequest, Sort,
    },
    money::Money,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use crate::{
    App, AppState,
    caller::Caller,
    error::{ApiError, ApiResult, Code},
    extract::{Path, Query, none_match},
    listing,
};

/// The most characters of a filter.
const MAX_FILTER_CHARS: usize = 200;
/// The most events of the popular ones.
const DEFAULT_POPULAR: u32 = 5;

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(list))
        .routes(routes!(popular))
        .routes(routes!(one))
        .routes(routes!(availability))
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct ListQuery {
    /// Words in title, category or description; `"a phrase"`, `or` and `-not` work as in search engines
    q: Option<String>,
    /// This category, in upper or lower case
    category: Option<String>,
    /// The city of the venue, in upper or lower case
    city: Option<String>,
    /// Starts not before this
    from: Option<DateTime<Utc>>,
    /// Starts not after this
    to: Option<DateTime<Utc>>,
    /// Some ticket costs at least this, in minor units
    #[param(minimum = 0)]
    price_min: Option<i64>,
    /// Some ticket costs at most this, in minor units
    #[param(minimum = 0)]
    price_max: Option<i64>,
    /// `latitude,longitude`
    #[param(example = "53.55,9.99")]
    near: Option<String>,
    /// Within so many kilometres of `near`
    #[param(minimum = 0, maximum = 20_038)]
    radius_km: Option<f64>,
    /// `true`: only events of which a ticket can be held now
    available: Option<bool>,
    /// Default `relevance` with `q`, else `starts_at`: upcoming first, soonest first
    #[param(inline)]
    sort: Option<Sort>,
    /// Counts to add, of the whole list: `category`, `city` or both, separated by a comma
    #[param(example = "category,city")]
    facets: Option<String>,
    #[param(minimum = 1, maximum = 100, default = 20)]
    limit: Option<u32>,
    /// `next_cursor` of the page before, with the same filters
    cursor: Option<String>,
}

impl ListQuery {
    fn request(self) -> ApiResult<ListRequest> {
        let near = self.near.as_deref().map(point).transpose()?;
        let q = self.q.filter(|q| !q.trim().is_empty());
        for (name, value) in [("q", &q), ("category", &self.category), ("city", &self.city)] {
            let fits = value.as_ref().is_none_or(|value| value.chars().count() <= MAX_FILTER_CHARS);
            require(fits, name, "is too long")?;
        }
        for (name, price) in [("price_min", self.price_min), ("price_max", self.price_max)] {
            let range = 0..=Money::MAX_AMOUNT;
            require(price.is_none_or(|price| range.contains(&price)), name, "is out of range")?;
        }
        let ordered = self.price_min.zip(self.price_max).is_none_or(|(min, max)| min <= max);
        require(ordered, "price_max", "is below price_min")?;
        let ordered = self.from.zip(self.to).is_none_or(|(from, to)| from <= to);
        require(ordered, "to", "is before from")?;
        for (name, time) in [("from", self.from), ("to", self.to)] {
            let stored = time.is_none_or(|time| (0..253_402_300_800).contains(&time.timestamp()));
            require(stored, name, "is out of range")?;
        }
        let radius = self.radius_km.is_none_or(|radius| (0.0..=20_038.0).contains(&radius));
        require(radius, "radius_km", "must be between 0 and 20038")?;
        require(self.radius_km.is_none() || near.is_some(), "radius_km", "needs near")?;
        let sort = self.sort.unwrap_or(if q.is_some() { Sort::Relevance } else { Sort::StartsAt });
        require(sort != Sort::Distance || near.is_some(), "sort", "distance needs near")?;
        require(sort != Sort::Relevance || q.is_some(), "sort", "relevance needs q")?;
        Ok(ListRequest {
            filter: EventFilter {
                q,
                category: self.category,
                city: self.city,
                from: self.from,
                to: self.to,
                price_min: self.price_min,
                price_max: self.price_max,
                near,
                radius_km: self.radius_km,
                available: self.available.unwrap_or(false),
                sort,
            },
            facets: self.facets.as_deref().map_or_else(|| Ok(Vec::new()), facet_names)?,
            limit: listing::limit(self.limit)?,
            cursor: self.cursor,
            pages: true,
        })
    }
}

fn require(holds: bool, name: &str, why: &str) -> ApiResult<()> {
    if holds { Ok(()) } else { Err(ApiError::new(Code::InvalidParameter, format!("{name}: {why}."))) }
}

fn point(text: &str) -> ApiResult<(f64, f64)> {
    let point = text.split_once(',').and_then(|(lat, lng)| {
        let point: (f64, f64) = (lat.trim().parse().ok()?, lng.trim().parse().ok()?);
        ((-90.0..=90.0).contains(&point.0) && (-180.0..=180.0).contains(&point.1)).then_some(point)
    });
    point.ok_or_else(|| ApiError::new(Code::InvalidParameter, "near: must be latitude,longitude."))
}

fn facet_names(text: &str) -> ApiResult<Vec<FacetName>> {
    let names = text.split(',').map(|name| match name {
        "category" => Ok(FacetName::Category),
        "city" => Ok(FacetName::City),
        _ => Err(ApiError::new(Code::InvalidParameter, "facets: may name category and city.")),
    });
    let mut names = names.collect::<ApiResult<Vec<_>>>()?;
    names.sort_unstable();
    names.dedup();
    Ok(names)
}

/// Events to go to
///
/// Published events that have not ended.
#[utoipa::path(get, path = "/v1/events", tag = "Events", operation_id = "list_events", params(ListQuery),
    extensions(("x-problems" = json!(["inventory-rebuilding"]))),
    responses(
        (status = OK, description = "A page of events", body = EventList,
         headers(("Link" = String, description = "`rel=\"next\"`: the next page, if there is one"))),
    ))]
async fn list(State(app): AppState, uri: Uri, Query(query): Query<ListQuery>) -> ApiResult<Response> {
    let answer = app.catalog.list(&query.request()?).await?;
    Ok((listing::next_link(&uri, answer.next_cursor.as_deref()), json(answer.body.clone())).into_response())
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct PopularQuery {
    #[param(minimum = 1, maximum = 100, default = 5)]
    limit: Option<u32>,
}

/// What sells best
///
/// Published events that have not ended, by tickets sold in the last 7 days.
#[utoipa::path(get, path = "/v1/events/popular", tag = "Events", operation_id = "popular_events",
    params(PopularQuery),
    extensions(("x-problems" = json!(["inventory-rebuilding"]))),
    responses((status = OK, description = "The events, best first", body = EventList),
    ))]
async fn popular(State(app): AppState, Query(query): Query<PopularQuery>) -> ApiResult<Response> {
    let limit = listing::limit(Some(query.limit.unwrap_or(DEFAULT_POPULAR)))?;
    let answer = app.catalog.popular(limit).await?;
    Ok(json(answer.body.clone()).into_response())
}

/// One event
///
/// A draft is there for its organizer and admins only.
#[utoipa::path(get, path = "/v1/events/{id}", tag = "Events", operation_id = "event", security((), ("bearer" = [])),
    params(
        ("id" = Uuid, Path, description = "The event"),
    ),
    extensions(("x-problems" = json!(["inventory-rebuilding"]))),
    responses(
        (status = OK, description = "The event", body = Event,
         headers(("ETag" = String, description = "Its version: `\"v7\"`"))),
    ))]
async fn one(
    State(app): AppState,
    Path(id): Path<Uuid>,
    caller: Option<Caller>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    if let Some(answer) = app.catalog.event(id).await? {
        return Ok(answer_or_304(&answer, &headers));
    }
    let editor = caller.as_ref().and_then(editor).ok_or_else(ApiError::not_found)?;
    let draft = app.catalog.draft(editor, id).await?.ok_or_else(ApiError::not_found)?;
    Ok(answer_or_304(&draft, &headers))
}

/// Seats, counted now
#[utoipa::path(get, path = "/v1/events/{id}/availability", tag = "Events", operation_id = "event_availability",
    security((), ("bearer" = [])), params(("id" = Uuid, Path, description = "The event")),
    extensions(("x-problems" = json!(["inventory-rebuilding"]))),
    responses((status = OK, description = "The seats of each ticket type", body = Availability),
    ))]
async fn availability(
    State(app): AppState,
    Path(id): Path<Uuid>,
    caller: Option<Caller>,
) -> ApiResult<Json<Availability>> {
    if let Some(availability) = app.catalog.availability(id).await? {
        return Ok(Json(availability));
    }
    let editor = caller.as_ref().and_then(editor).ok_or_else(ApiError::not_found)?;
    app.catalog.draft_availability(editor, id).await?.map(Json).ok_or_else(ApiError::not_found)
}

/// The caller as one who may see drafts: an organizer their own, an admin all.
fn editor(caller: &Caller) -> Option<Editor> {
    match caller.role() {
        Role::Organizer | Role::Admin => Some(caller.editor()),
        Role::User | Role::Operator => None,
    }
}

fn answer_or_304(answer: &EventAnswer, headers: &HeaderMap) -> Response {
    // The tag is a quoted number.
    let tag = HeaderValue::from_maybe_shared(answer.etag.clone()).expect("tags are visible ASCII");
    if headers.contains_key(header::IF_NONE_MATCH) && none_match(headers, tag.to_str().unwrap_or("")) {
        return (StatusCode::NOT_MODIFIED, [(header::ETAG, tag)]).into_response();
    }
    ([(header::ETAG, tag)], json(answer.body.clone())).into_response()
}

/// A body that is JSON already.
fn json(body: Bytes) -> ([(HeaderName, HeaderValue); 1], Bytes) {
    ([(header::CONTENT_TYPE, HeaderValue::from_static("application/json"))], body)
}

impl From<CatalogError> for ApiError {
    fn from(error: CatalogError) -> Self {
        match error {
            CatalogError::Rebuilding => Code::InventoryRebuilding.into(),
            CatalogError::Cursor(_) => listing::invalid_cursor(),
            CatalogError::Fault(fault) => (&*fault).into(),
        }
    }
}
