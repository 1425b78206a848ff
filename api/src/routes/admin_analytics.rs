//! Figures for organizers and admins: totals, single events, series.

use std::sync::Arc;

use axum::{Json, extract::State, http::HeaderMap, response::Response};
use chrono::{DateTime, NaiveDate, Utc};
use domain::{
    accounts::Role,
    analytics::{self, EventStatistics, Granularity, Overview, Period, Scope, Series},
    clock,
};
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::bookings::tagged;
use crate::{
    App, AppState,
    caller::{Caller, Organizer},
    error::{ApiError, ApiResult, Code},
    extract::{Path, Query},
};

/// The most buckets of a series.
const MAX_BUCKETS: usize = 1_000;

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(read_all))
        .routes(routes!(read_daily))
        .routes(routes!(read_event))
        .routes(routes!(read_event_daily))
}

/// An admin sees all events, an organizer their own.
pub(super) fn scope(caller: &Caller) -> Scope {
    if caller.role() == Role::Admin { Scope::All } else { Scope::Organizer(caller.id()) }
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
pub(super) struct PeriodQuery {
    /// The first day. Of a time, its day in UTC. Without it, as far back as 30 days before `to`
    #[param(example = "2026-11-01")]
    from: Option<String>,
    /// The last day, which is counted too. Today unless given. Without either, all days are counted
    #[param(example = "2026-11-30")]
    to: Option<String>,
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct SeriesQuery {
    /// The first day. Of a time, its day in UTC. Unless given, the last 30 days up to `to` are counted
    #[param(example = "2026-11-01")]
    from: Option<String>,
    /// The last day, which is counted too. Today unless given
    #[param(example = "2026-11-30")]
    to: Option<String>,
    /// How long a bucket is; a day unless given. At most 1,000 buckets
    #[param(inline)]
    granularity: Option<Granularity>,
}

impl PeriodQuery {
    /// What is asked for; `None`: all days.
    pub(super) fn period(&self) -> ApiResult<Option<Period>> {
        let (from, to) = (day("from", self.from.as_deref())?, day("to", self.to.as_deref())?);
        let today = || clock::now().date_naive();
        let period = match (from, to) {
            (None, None) => return Ok(None),
            (Some(from), to) => Period { from, to: to.unwrap_or_else(|| today().max(from)) },
            (None, Some(to)) => Period::ending(to, 30),
        };
        match period.days() {
            1..=Period::MAX_DAYS => Ok(Some(period)),
            ..1 => Err(ApiError::new(Code::InvalidParameter, "to: is before from.")),
            _ => {
                let most = Period::MAX_DAYS;
                Err(ApiError::new(
                    Code::InvalidParameter,
                    format!("from: is more than {most} days before to."),
                ))
            }
        }
    }
}

impl SeriesQuery {
    fn series(self) -> ApiResult<(Option<Period>, Granularity)> {
        let granularity = self.granularity.unwrap_or_default();
        let period = PeriodQuery { from: self.from, to: self.to }.period()?;
        if period.is_some_and(|period| period.buckets(granularity).nth(MAX_BUCKETS).is_some()) {
            let why = format!("granularity: makes more than {MAX_BUCKETS} buckets of this period.");
            return Err(ApiError::new(Code::InvalidParameter, why));
        }
        Ok((period, granularity))
    }
}

/// A day of the calendar, written as such or as a time.
fn day(name: &str, text: Option<&str>) -> ApiResult<Option<NaiveDate>> {
    let Some(text) = text else { return Ok(None) };
    let day = text.parse::<NaiveDate>().ok().or_else(|| {
        let time: Option<DateTime<Utc>> = text.parse().ok();
        time.map(|time| time.date_naive())
    });
    let years = NaiveDate::from_ymd_opt(1970, 1, 1)..=NaiveDate::from_ymd_opt(9999, 12, 31);
    if day.is_some() && years.contains(&day) {
        Ok(day)
    } else {
        Err(ApiError::new(Code::InvalidParameter, format!("{name}: must be a day, like 2026-11-30.")))
    }
}

/// All figures at a glance
///
/// Totals of a period beside those of the period before, what sells best, and how full the events on sale are. An
/// organizer's are those of their own events. Days are those of each event's venue.
#[utoipa::path(get, path = "/v1/admin/analytics", tag = "Admin: insight", operation_id = "analytics",
    security(("bearer" = [])), params(PeriodQuery),
    responses((status = OK, description = "The figures, at most some seconds old", body = Overview)))]
async fn read_all(
    State(app): AppState,
    Organizer(caller): Organizer,
    Query(query): Query<PeriodQuery>,
) -> ApiResult<Json<Overview>> {
    let period = query.period()?;
    Ok(Json(analytics::overview(&mut *app.db.conn().await?, scope(&caller), period).await?))
}

/// All figures over time
#[utoipa::path(get, path = "/v1/admin/analytics/daily", tag = "Admin: insight", operation_id = "analytics_daily",
    security(("bearer" = [])), params(SeriesQuery),
    responses((status = OK, description = "A bucket for each day, week or month", body = Series)))]
async fn read_daily(
    State(app): AppState,
    Organizer(caller): Organizer,
    Query(query): Query<SeriesQuery>,
) -> ApiResult<Json<Series>> {
    let (period, granularity) = query.series()?;
    let conn = &mut *app.db.conn().await?;
    Ok(Json(analytics::series(conn, scope(&caller), period, granularity).await?))
}

/// The figures of one event
///
/// Days are those of the event's venue.
#[utoipa::path(get, path = "/v1/admin/analytics/events/{id}", tag = "Admin: insight",
    operation_id = "event_analytics", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), PeriodQuery),
    responses((status = OK, description = "The figures, at most some seconds old", body = EventStatistics,
        headers(("ETag" = String, description = "Changes when something was counted")))))]
async fn read_event(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(id): Path<Uuid>,
    Query(query): Query<PeriodQuery>,
    headers: HeaderMap,
) -> ApiResult<Response> {
    let period = query.period()?;
    let conn = &mut *app.db.conn().await?;
    let found = analytics::event_statistics(conn, scope(&caller), id, period).await?;
    Ok(tagged(&headers, &found.ok_or_else(ApiError::not_found)?))
}

/// The figures of one event over time
///
/// Days are those of the event's venue.
#[utoipa::path(get, path = "/v1/admin/analytics/events/{id}/daily", tag = "Admin: insight",
    operation_id = "event_analytics_daily", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), SeriesQuery),
    responses((status = OK, description = "A bucket for each day, week or month", body = Series)))]
async fn read_event_daily(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(id): Path<Uuid>,
    Query(query): Query<SeriesQuery>,
) -> ApiResult<Json<Series>> {
    let (period, granularity) = query.series()?;
    let conn = &mut *app.db.conn().await?;
    let found = analytics::event_series(conn, scope(&caller), id, period, granularity).await?;
    Ok(Json(found.ok_or_else(ApiError::not_found)?))
}

#[cfg(test)]
mod tests {
    use super::*;

    fn query(from: Option<&str>, to: Option<&str>) -> PeriodQuery {
        PeriodQuery { from: from.map(str::to_owned), to: to.map(str::to_owned) }
    }

    #[test]
    fn periods() {
        let asked =
            |from, to| query(from, to).period().unwrap().map(|p| (p.from.to_string(), p.to.to_string()));
        let period = |from: &str, to: &str| Some((from.to_owned(), to.to_owned()));
        assert_eq!(asked(None, None), None);
        assert_eq!(asked(Some("2026-02-01"), Some("2026-02-01")), period("2026-02-01", "2026-02-01"));
        assert_eq!(asked(None, Some("2026-01-30")), period("2026-01-01", "2026-01-30"));
        let times = (Some("2026-02-01T23:30:00-01:00"), Some("2026-02-03T00:00:00Z"));
        assert_eq!(asked(times.0, times.1), period("2026-02-02", "2026-02-03"));
        // A day to come is a day too: the next one begins earlier elsewhere.
        assert_eq!(asked(Some("9000-01-01"), None), period("9000-01-01", "9000-01-01"));
        for (from, to) in [
            (Some("2026-02-02"), Some("2026-02-01")),
            (Some("2001-01-01"), Some("2026-01-01")),
            (Some("yesterday"), None),
            (None, Some("2026-02-30")),
            (None, Some("1969-12-31")),
            (None, Some("-0001-01-01")),
        ] {
            let error = query(from, to).period().unwrap_err();
            assert_eq!(error.code(), Code::InvalidParameter, "{from:?} {to:?}");
        }
    }

    #[test]
    fn a_series_has_at_most_a_thousand_buckets() {
        let asked = |granularity| {
            let [from, to] = ["2020-01-01", "2026-01-01"].map(|day| Some(day.to_owned()));
            SeriesQuery { from, to, granularity }.series()
        };
        assert_eq!(asked(None).unwrap_err().code(), Code::InvalidParameter);
        assert!(asked(Some(Granularity::Week)).is_ok());
    }
}
