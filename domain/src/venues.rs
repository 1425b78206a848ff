//! Venues: where events take place. Everybody reads them; organizers enter them and change their own.

use chrono::{DateTime, Utc};
use diesel::prelude::*;
use diesel_async::{AsyncConnection, RunQueryDsl};
use serde::{Deserialize, Serialize};
use serde_json::json;
use utoipa::ToSchema;
use uuid::Uuid;

use crate::{
    audit::{self, AuditEntry},
    db::{Conn, Db},
    events::{Editor, WriteError},
    fault::Fault,
    invalid::{Check, FieldError},
    listing::{Fingerprint, Page},
    schema::{events, venues},
};

/// What a venue is made of.
#[derive(Clone, Debug, PartialEq, Serialize, Deserialize, ToSchema)]
#[serde(deny_unknown_fields)]
pub struct VenueFields {
    #[schema(min_length = 1, max_length = 200, example = "Elbphilharmonie")]
    pub name: String,
    #[schema(min_length = 1, max_length = 300, example = "Platz der Deutschen Einheit 1")]
    pub address: String,
    #[schema(min_length = 1, max_length = 100, example = "Hamburg")]
    pub city: String,
    #[schema(min_length = 1, max_length = 100, example = "DE")]
    pub country: String,
    #[schema(minimum = -90, maximum = 90, example = 53.5413)]
    pub latitude: f64,
    #[schema(minimum = -180, maximum = 180, example = 9.9841)]
    pub longitude: f64,
    /// IANA name: in which times on tickets and in mails are given.
    #[schema(example = "Europe/Berlin")]
    pub timezone: String,
}

impl VenueFields {
    fn check(&self) -> Result<(), Vec<FieldError>> {
        let mut check = Check::default();
        check.line("/name", &self.name, 200);
        check.line("/address", &self.address, 300);
        check.line("/city", &self.city, 100);
        check.line("/country", &self.country, 100);
        check.ensure((-90.0..=90.0).contains(&self.latitude), "/latitude", "must be between -90 and 90");
        check.ensure(
            (-180.0..=180.0).contains(&self.longitude),
            "/longitude",
            "must be between -180 and 180",
        );
        let zone = self.timezone.parse::<chrono_tz::Tz>();
        check.ensure(zone.is_ok(), "/timezone", "must be the IANA name of a time zone");
        check.finish()
    }
}

/// A venue as it is answered and stored.
#[derive(Clone, Debug, PartialEq, Serialize, ToSchema, Queryable, Selectable)]
#[diesel(table_name = venues, check_for_backend(diesel::pg::Pg))]
pub struct Venue {
    pub id: Uuid,
    pub name: String,
    pub address: String,
    pub city: String,
    pub country: String,
    pub latitude: f64,
    pub longitude: f64,
    pub timezone: String,
    pub version: i64,
    pub created_at: DateTime<Utc>,
    pub updated_at: DateTime<Utc>,
}

/// Enters a venue. `owner` may change it later, beside admins.
pub async fn create(db: &Db, owner: Option<Uuid>, fields: &VenueFields) -> Result<Venue, WriteError> {
    fields.check().map_err(WriteError::Invalid)?;
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let id = Uuid::now_v7();
            let venue = diesel::insert_into(venues::table)
                .values((
                    venues::id.eq(id),
                    venues::created_by.eq(owner),
                    venues::name.eq(&fields.name),
                    venues::address.eq(&fields.address),
                    venues::city.eq(&fields.city),
                    venues::country.eq(&fields.country),
                    venues::latitude.eq(fields.latitude),
                    venues::longitude.eq(fields.longitude),
                    venues::timezone.eq(&fields.timezone),
                ))
                .returning(Venue::as_returning())
                .get_result(conn)
                .await?;
            let detail = json!({ "name": fields.name });
            let entry = AuditEntry::new(owner, "venue.created", ("venue", id), detail);
            audit::append(conn, &[entry]).await?;
            Ok(venue)
        })
        .await
}

/// A venue changed, and the events that show it: their versions rose with it.
#[derive(Debug)]
pub struct Replaced {
    pub venue: Venue,
    pub events: Vec<(Uuid, i64)>,
}

/// Replaces a venue's fields if its version is still `expected`.
pub async fn replace(
    db: &Db,
    editor: Editor,
    id: Uuid,
    expected: i64,
    fields: &VenueFields,
) -> Result<Replaced, WriteError> {
    fields.check().map_err(WriteError::Invalid)?;
    let mut conn = db.conn().await?;
    (*conn)
        .transaction(async |conn: &mut Conn| {
            let present: Option<(i64, Option<Uuid>)> = venues::table
                .find(id)
                .select((venues::version, venues::created_by))
                .for_no_key_update()
                .first(conn)
                .await
                .optional()?;
            let (version, owner) = present.ok_or(WriteError::NotFound)?;
            if !editor.may_edit(owner) {
                return Err(WriteError::NotFound);
            }
            if version != expected {
                return Err(WriteError::Stale);
            }
            let venue = diesel::update(venues::table.find(id))
                .set((
                    venues::name.eq(&fields.name),
                    venues::address.eq(&fields.address),
                    venues::city.eq(&fields.city),
                    venues::country.eq(&fields.country),
                    venues::latitude.eq(fields.latitude),
                    venues::longitude.eq(fields.longitude),
                    venues::timezone.eq(&fields.timezone),
                    venues::version.eq(venues::version + 1),
                    venues::updated_at.eq(diesel::dsl::now),
                ))
                .returning(Venue::as_returning())
                .get_result(conn)
                .await?;
            // An event's answer holds its venue, and its strong tag must change with what it holds.
            let shown = diesel::update(events::table.filter(events::venue_id.eq(id)))
                .set((events::version.eq(events::version + 1), events::updated_at.eq(diesel::dsl::now)))
                .returning((events::id, events::version))
                .get_results(conn)
                .await?;
            let detail = json!({ "version": venue.version });
            audit::append(
                conn,
                &[AuditEntry::new(Some(editor.user_id), "venue.updated", ("venue", id), detail)],
            )
            .await?;
            Ok(Replaced { venue, events: shown })
        })
        .await
}

/// One venue.
pub async fn find(db: &Db, id: Uuid) -> Result<Option<Venue>, Fault> {
    let mut conn = db.conn().await?;
    Ok(venues::table.find(id).select(Venue::as_select()).first(&mut conn).await.optional()?)
}

/// The cursor of [`list`] does not fit.
#[derive(Debug, thiserror::Error)]
pub enum ListError {
    #[error(transparent)]
    Cursor(#[from] crate::listing::InvalidCursor),
    #[error(transparent)]
    Fault(#[from] Fault),
}

/// Venues in the order in which they were entered.
pub async fn list(db: &Db, limit: u32, cursor: Option<&str>) -> Result<Page<Venue>, ListError> {
    let fingerprint = Fingerprint::of("venues", &());
    let after: Uuid = cursor.map(|cursor| fingerprint.position(cursor)).transpose()?.unwrap_or(Uuid::nil());
    let mut conn = db.conn().await?;
    let found = venues::table
        .filter(venues::id.gt(after))
        .order(venues::id)
        .limit(i64::from(limit) + 1)
        .select(Venue::as_select())
        .load(&mut conn)
        .await
        .map_err(Fault::from)?;
    Ok(fingerprint.page(found, limit, |venue| venue.id))
}
