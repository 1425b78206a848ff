//! Figures as CSV, streamed: a page is read when the one before has gone out, on a connection of its own.

use std::sync::Arc;

use axum::{
    body::Body,
    extract::State,
    http::header,
    response::{IntoResponse, Response},
};
use chrono::SecondsFormat;
use domain::{
    analytics::{self, Band, EventUtilization, ExportRow, Period, Scope, UtilizationFilter},
    events::EventStatus,
    fault::Fault,
};
use futures::stream;
use serde::Deserialize;
use utoipa::IntoParams;
use utoipa_axum::{router::OpenApiRouter, routes};
use uuid::Uuid;

use super::admin_analytics::{PeriodQuery, scope};
use crate::{
    App, AppState,
    caller::Organizer,
    csv,
    error::{ApiError, ApiResult},
    extract::{Path, Query},
};

/// Rows read at a time: some 200 KB.
const PAGE: u32 = 1_000;
const DAYS: &str = "event_id,title,day,timezone,currency,bookings,tickets,gross,refunds,refunds_pending,net,\
                    cancellations,cancelled_tickets,refunded_bookings,failed,holds\r\n";
const CAPACITY: &str = "event_id,title,status,starts_at,capacity,sold,utilization,band\r\n";

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .routes(routes!(export_all))
        .routes(routes!(export_event))
        .routes(routes!(export_capacity))
}

/// Every day of every event, as CSV
///
/// An organizer's are those of their own events. Amounts are in minor units; titles that a spreadsheet would take for a
/// formula begin with an apostrophe. A body that breaks off is not whole.
#[utoipa::path(get, path = "/v1/admin/analytics/export.csv", tag = "Admin: insight",
    operation_id = "export_analytics", security(("bearer" = [])), params(PeriodQuery),
    responses((status = OK, description = "A line for each day on which something happened", body = String,
        content_type = "text/csv",
        headers(("Content-Disposition" = String, description = "`attachment`, with the name of a file")))))]
async fn export_all(
    State(app): AppState,
    Organizer(caller): Organizer,
    Query(query): Query<PeriodQuery>,
) -> ApiResult<Response> {
    days(app, scope(&caller), None, query.period()?).await
}

/// Every day of one event, as CSV
///
/// Amounts are in minor units; a title that a spreadsheet would take for a formula begins with an apostrophe. A body
/// that breaks off is not whole.
#[utoipa::path(get, path = "/v1/admin/analytics/events/{id}/export.csv", tag = "Admin: insight",
    operation_id = "export_event_analytics", security(("bearer" = [])),
    params(("id" = Uuid, Path, description = "The event"), PeriodQuery),
    responses((status = OK, description = "A line for each day on which something happened", body = String,
        content_type = "text/csv",
        headers(("Content-Disposition" = String, description = "`attachment`, with the name of a file")))))]
async fn export_event(
    State(app): AppState,
    Organizer(caller): Organizer,
    Path(id): Path<Uuid>,
    Query(query): Query<PeriodQuery>,
) -> ApiResult<Response> {
    let (scope, period) = (scope(&caller), query.period()?);
    let found = analytics::event_statistics(&mut *app.db.conn().await?, scope, id, None).await?;
    found.ok_or_else(ApiError::not_found)?;
    days(app, scope, Some(id), period).await
}

#[derive(Deserialize, IntoParams)]
#[serde(deny_unknown_fields)]
#[into_params(parameter_in = Query)]
struct CapacityQuery {
    /// Events of this status; `published` unless given.
    status: Option<EventStatus>,
    /// Only events this full: `high` from 80 %, `medium` from 50 %.
    band: Option<Band>,
}

/// How full events are, as CSV
///
/// A title that a spreadsheet would take for a formula begins with an apostrophe. A body that breaks off is not whole.
#[utoipa::path(get, path = "/v1/admin/events/capacity_utilization/export.csv", tag = "Admin: insight",
    operation_id = "export_capacity_utilization", security(("bearer" = [])), params(CapacityQuery),
    responses((status = OK, description = "A line for each event, fullest first", body = String,
        content_type = "text/csv",
        headers(("Content-Disposition" = String, description = "`attachment`, with the name of a file")))))]
async fn export_capacity(
    State(app): AppState,
    Organizer(caller): Organizer,
    Query(query): Query<CapacityQuery>,
) -> ApiResult<Response> {
    let status = query.status.unwrap_or(EventStatus::Published);
    let filter = UtilizationFilter::new(scope(&caller), status, query.band);
    let page = move |after| {
        let app = Arc::clone(&app);
        async move {
            let found = analytics::utilizations(&mut *app.db.conn().await?, &filter, after, PAGE).await?;
            let last = found.last().map(|(_, place)| *place).filter(|_| found.len() == PAGE as usize);
            let lines: String = found.iter().map(|(event, _)| event_line(event)).collect();
            Ok::<_, Fault>((lines, last))
        }
    };
    attachment("capacity_utilization.csv", CAPACITY, page).await
}

async fn days(
    app: Arc<App>,
    scope: Scope,
    event_id: Option<Uuid>,
    period: Option<Period>,
) -> ApiResult<Response> {
    let page = move |after| {
        let app = Arc::clone(&app);
        async move {
            let conn = &mut *app.db.conn().await?;
            let found = analytics::export_page(conn, scope, event_id, period, after, i64::from(PAGE)).await?;
            let last = found.last().map(|row| (row.event_id, row.day));
            let last = last.filter(|_| found.len() == PAGE as usize);
            Ok::<_, Fault>((found.iter().map(day_line).collect::<String>(), last))
        }
    };
    attachment("analytics.csv", DAYS, page).await
}

/// Lines as they are read: `page` answers those after a place, and the next place if there is one. The first page is
/// read before anything is answered, so that what is wrong at once is a problem with its status.
async fn attachment<P, F>(
    name: &'static str,
    head: &'static str,
    page: impl Fn(Option<P>) -> F + Send + 'static,
) -> ApiResult<Response>
where
    P: Send + 'static,
    F: Future<Output = Result<(String, Option<P>), Fault>> + Send + 'static,
{
    let (first, next) = page(None).await?;
    let rest = stream::try_unfold((next, page), |(next, page)| async move {
        let Some(place) = next else { return Ok::<_, Fault>(None) };
        let read = page(Some(place));
        let (lines, next) = read.await?;
        Ok(Some((lines, (next, page))))
    });
    let first = stream::once(async move { Ok(head.to_owned() + &first) });
    let headers = [
        (header::CONTENT_TYPE, "text/csv; charset=utf-8".to_owned()),
        (header::CONTENT_DISPOSITION, format!("attachment; filename=\"{name}\"")),
        (header::CACHE_CONTROL, "no-store".to_owned()),
    ];
    let body = Body::from_stream(futures::StreamExt::chain(first, rest));
    Ok((headers, body).into_response())
}

fn day_line(row: &ExportRow) -> String {
    let (counts, revenue) = (&row.counts, &row.revenue);
    csv::line(&[
        row.event_id.to_string(),
        csv::text(&row.title),
        row.day.to_string(),
        csv::text(&row.timezone),
        csv::text(&revenue.net.currency),
        counts.bookings.to_string(),
        counts.tickets.to_string(),
        revenue.gross.amount.to_string(),
        revenue.refunds.amount.to_string(),
        revenue.refunds_pending.amount.to_string(),
        revenue.net.amount.to_string(),
        counts.cancellations.to_string(),
        counts.cancelled_tickets.to_string(),
        counts.refunded_bookings.to_string(),
        counts.failed.to_string(),
        counts.holds.to_string(),
    ])
}

fn event_line(event: &EventUtilization) -> String {
    csv::line(&[
        event.event_id.to_string(),
        csv::text(&event.title),
        event.status.name().to_owned(),
        event.starts_at.to_rfc3339_opts(SecondsFormat::Secs, true),
        event.capacity.to_string(),
        event.sold.to_string(),
        event.utilization.to_string(),
        event.band.name().to_owned(),
    ])
}
