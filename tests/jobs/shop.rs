//! An event on sale with workers at hand: jobs are run one by one, as the tests say.

use std::collections::BTreeMap;

use domain::{
    bookings::{self, KeptBooking},
    holds::{BeginConfirm, ConfirmStart, HoldStatus, PaymentChoice, begin_confirm},
    jobs::{ConfirmBooking, Job, VoidPayment},
};
use serde_json::value::to_raw_value;
use uuid::Uuid;
use workers::{Context, JobError};

use crate::{domain::seats::Sale, support::children};

pub struct Shop {
    pub ctx: Context,
    pub sale: Sale,
}

impl Shop {
    pub async fn open(capacities: &[u32], users: usize) -> Self {
        let sale = Sale::open(capacities, users, 100).await;
        let data = children::root().join(format!("data-{}", Uuid::now_v7().simple()));
        let env = BTreeMap::from([
            ("DATABASE_URL", sale.database.url()),
            ("REDIS_URL", sale.redis.url()),
            ("EVENTLY_DATA_DIR", data.to_string_lossy().into_owned()),
        ]);
        let ctx = Context::from_env(&env.into_iter().collect()).unwrap();
        Self { ctx, sale }
    }

    /// Runs a job once, as its pool would.
    pub async fn run<J: Job>(&self, job: &J) -> Result<(), JobError> {
        let spec = workers::spec(J::POOL);
        let registered = spec.jobs.iter().find(|registered| registered.name == J::NAME).unwrap();
        (registered.run)(&to_raw_value(job).unwrap(), self.ctx.clone()).await
    }

    /// Places a hold and begins its confirm.
    pub async fn begin(&self, user: usize, lines: &[(usize, u32)], token: &str) -> ConfirmBooking {
        let hold_id = self.sale.place(user, lines, &Uuid::now_v7().to_string()).await.unwrap().hold.id;
        self.begin_again(user, hold_id, token).await
    }

    pub async fn begin_again(&self, user: usize, hold_id: Uuid, token: &str) -> ConfirmBooking {
        let payment = Some(PaymentChoice { provider: "sandbox".to_owned(), token: token.to_owned() });
        let request = BeginConfirm { payment, ..self.sale.confirm(hold_id, user) };
        match begin_confirm(&self.ctx.inventory, &self.ctx.db, &request).await.unwrap() {
            ConfirmStart::Started { attempt } => {
                ConfirmBooking { event_id: self.sale.event_id, hold_id, attempt }
            }
            other => panic!("{other:?}"),
        }
    }

    pub async fn booking(&self, id: Uuid) -> KeptBooking {
        bookings::read(&mut self.ctx.db.conn().await.unwrap(), id, None).await.unwrap().unwrap()
    }

    pub async fn hold_status(&self, id: Uuid) -> HoldStatus {
        let hold = domain::holds::read(&self.ctx.inventory, self.sale.event_id, id).await.unwrap();
        hold.unwrap().status
    }

    /// One value of one row.
    pub async fn value(&self, sql: &str) -> String {
        self.sale.database.value(sql).await.unwrap_or_default()
    }

    /// Runs what the outbox holds of this job, and empties it of that.
    pub async fn drain<J: Job>(&self) -> usize {
        let mut ran = 0;
        loop {
            let payload = self
                .value(&format!("SELECT payload FROM outbox WHERE job = '{}' ORDER BY id LIMIT 1", J::NAME))
                .await;
            if payload.is_empty() {
                return ran;
            }
            let job: J = serde_json::from_str(&payload).unwrap();
            self.run(&job).await.unwrap();
            self.run(&job).await.unwrap();
            let key = job.key();
            let delete = format!("DELETE FROM outbox WHERE job = '{}' AND job_key = '{key}'", J::NAME);
            self.sale.database.execute(&delete).await;
            ran += 1;
        }
    }

    /// What must hold at rest, whatever happened before.
    pub async fn assert_consistent(&self) {
        self.drain::<VoidPayment>().await;
        let counts = self.sale.counts().await;
        for (count, id) in counts.iter().zip(&self.sale.ticket_types) {
            let sold = self.value(&format!("SELECT sold FROM ticket_types WHERE id = '{id}'")).await;
            assert_eq!(count.sold.to_string(), sold, "Redis and Postgres agree");
            assert_eq!(count.held, 0);
            let tickets = format!(
                "SELECT count(*) FROM tickets WHERE ticket_type_id = '{id}' AND status <> 'cancelled'"
            );
            assert_eq!(self.value(&tickets).await, sold, "a ticket for each seat sold");
        }
        let bought = "SELECT coalesce(sum(sold), 0) FROM event_buyers";
        let sold = "SELECT coalesce(sum(sold), 0) FROM ticket_types";
        assert_eq!(self.value(bought).await, self.value(sold).await);
        let wrong = "SELECT count(*) FROM sandbox_charges c LEFT JOIN bookings b ON b.id = c.booking_id
                     WHERE c.status IN ('authorised', 'captured') AND c.refunded = 0
                       AND b.status IS DISTINCT FROM 'confirmed'";
        assert_eq!(self.value(wrong).await, "0", "no charge without a seat");
    }
}
