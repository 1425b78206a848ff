//! Every route, on one page.

use std::sync::Arc;

use axum::Router;
use utoipa_axum::router::OpenApiRouter;

use crate::{
    App,
    error::{ApiError, Code},
    middleware::Edge,
    routes,
};

/// The routes with their documentation.
pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new()
        .merge(routes::events::routes())
        .merge(routes::venues::routes())
        .merge(routes::admin_events::routes())
        .merge(routes::admin_ticket_types::routes())
        .merge(routes::admin_venues::routes())
        .merge(routes::admin_waitlist::routes())
        .merge(routes::admin_pricing::routes())
        .merge(routes::auth::routes())
        .merge(routes::sessions::routes())
        .merge(routes::me::routes())
        .merge(routes::export::routes())
        .merge(routes::admin_users::routes())
        .merge(routes::confirm::routes())
        .merge(routes::holds::routes())
        .merge(routes::waitlist::routes())
        .merge(routes::offers::routes())
        .merge(routes::bookings::routes())
        .merge(routes::tickets::routes())
        .merge(routes::admin_bookings::routes())
        .merge(routes::webhooks::routes())
        .merge(routes::queues::routes())
        .merge(routes::jobs::routes())
        .merge(routes::schedules::routes())
        .merge(routes::admin_analytics::routes())
        .merge(routes::admin_capacity::routes())
        .merge(routes::admin_exports::routes())
        .merge(routes::jwks::routes())
        .merge(routes::health::routes())
        .merge(routes::docs::routes())
        .merge(routes::dev_mail::routes())
        .merge(routes::problems::routes())
}

/// The whole API as one service: the routes, what answers when none fits, and what every request passes through.
pub fn service(app: Arc<App>, edge: Edge) -> Router {
    let (router, _document) = routes().split_for_parts();
    router
        .fallback(async || ApiError::new(Code::NotFound, "There is no such route."))
        .method_not_allowed_fallback(async || ApiError::from(Code::MethodNotAllowed))
        .with_state(app)
        .layer(edge)
}
