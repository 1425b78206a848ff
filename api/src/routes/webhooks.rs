//! What payment providers tell us. A hint, never a fact: it is checked, noted once, and a job asks the provider.

use std::sync::Arc;

use axum::{
    Json,
    extract::{Request, State},
};
use domain::{
    clock,
    payments::{
        Provider,
        provider_events::{self, Heard, ProviderEvent},
    },
};
use serde::Serialize;
use utoipa::ToSchema;
use utoipa_axum::{router::OpenApiRouter, routes};

use crate::{
    App, AppState,
    error::{ApiError, ApiResult, Code},
    extract::read_body,
};

pub fn routes() -> OpenApiRouter<Arc<App>> {
    OpenApiRouter::new().routes(routes!(stripe))
}

#[derive(Serialize, ToSchema)]
struct Received {
    #[schema(example = true)]
    received: bool,
}

/// Hear an event of Stripe
///
/// For Stripe alone: set this address as an endpoint for `payment_intent.*` events there, and its secret as
/// `STRIPE_WEBHOOK_SECRET` here. Each event counts once, however often it comes.
#[utoipa::path(post, path = "/v1/webhooks/stripe", tag = "Operations", operation_id = "hear_stripe",
    params(("Stripe-Signature" = String, Header, description = "`t=…,v1=…`: HMAC-SHA256 of time and body")),
    request_body(content = Object, description = "A Stripe event"),
    responses((status = OK, description = "It was heard, now or before", body = Received)),
    extensions(("x-problems" = json!(["signature-invalid", "not-found"]))))]
async fn stripe(State(app): AppState, request: Request) -> ApiResult<Json<Received>> {
    let Some(stripe) = &app.payments.stripe else { return Err(ApiError::not_found()) };
    let signature = request.headers().get("stripe-signature").and_then(|value| value.to_str().ok());
    let signature = signature.unwrap_or_default().to_owned();
    let body = read_body(request).await?;
    let event = provider_events::verify(&signature, &body, &stripe.webhook_secret, clock::now())
        .map_err(|error| ApiError::new(Code::SignatureInvalid, format!("The message is refused: {error}.")))
        .and_then(|()| {
            serde_json::from_slice::<ProviderEvent>(&body).map_err(|error| {
                ApiError::new(Code::MalformedJson, format!("The body is no event: {error}."))
            })
        });
    let outcome = match event {
        Ok(event) => {
            provider_events::hear(&app.db, Provider::Stripe.name(), &event).await.map_err(Into::into)
        }
        Err(refusal) => Err(refusal),
    };
    let label = match &outcome {
        Ok(Heard::Noted) => "noted",
        Ok(Heard::Before) => "before",
        Ok(Heard::Foreign) => "foreign",
        Err(_) => "refused",
    };
    metrics::counter!("evently_payments_webhooks_total", "provider" => "stripe", "outcome" => label)
        .increment(1);
    outcome.map(|_: Heard| Json(Received { received: true }))
}
