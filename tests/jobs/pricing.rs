//! Prices that move by rules: each due time once, whoever else writes, and a sale whose prices were worked out by hand.

use domain::{
    events::{self, Editor, Seating, Target, TicketTypeFields, WriteError},
    jobs::RepriceEvent,
    money::Money,
    pricing::{self, PricingRules},
    retention::{Kept, let_go},
};
use serde_json::{Value, json};
use workers::runtime::Report;

use super::shop::Shop;

impl Shop {
    pub(super) fn owner(&self) -> Editor {
        Editor { user_id: self.sale.users[0], is_admin: false }
    }

    /// Writes rules over those of this version.
    pub(super) async fn rules(&self, version: i64, rules: &Value) -> PricingRules {
        let rules: PricingRules = serde_json::from_value(rules.clone()).unwrap();
        let event_id = self.sale.event_id;
        let db = &self.ctx.db;
        pricing::replace(db, self.owner(), event_id, version, rules).await.unwrap().rules
    }

    /// Looks for events whose prices are due, as the pool does; answers how many there are.
    pub(super) async fn find_due(&self) -> u64 {
        let periodic = workers::spec(domain::jobs::Pool::Pricing).periodics[0];
        let Report { found, .. } = (periodic.run)(self.ctx.clone()).await.unwrap();
        found
    }

    /// The evaluation that is due.
    async fn due_job(&self) -> RepriceEvent {
        let due = pricing::due(&self.ctx.db, None, 10).await.unwrap();
        let due = due.iter().find(|due| due.event_id == self.sale.event_id).expect("nothing is due");
        RepriceEvent { event_id: due.event_id, due_second: due.due_second }
    }

    /// Runs the evaluation that is due, twice.
    pub(super) async fn reprice(&self) {
        let job = self.due_job().await;
        self.run(&job).await.unwrap();
        let before = self.pricing_state().await;
        self.run(&job).await.unwrap();
        assert_eq!(self.pricing_state().await, before, "a second run changes nothing");
    }

    /// Lets the prices be due, so many seconds ago.
    async fn let_be_due(&self, seconds_ago: i64) {
        let sql = format!(
            "UPDATE pricing_rules SET next_due_at = date_trunc('second', now()) - interval '{seconds_ago} seconds'"
        );
        self.sale.database.execute(&sql).await;
    }

    /// All that an evaluation may write.
    async fn pricing_state(&self) -> Vec<Vec<Option<String>>> {
        let sql = "SELECT (SELECT string_agg(t::text, ';' ORDER BY id) FROM ticket_types t),
                          (SELECT string_agg(p::text, ';') FROM pricing_rules p),
                          (SELECT string_agg(h::text, ';' ORDER BY step) FROM price_history h),
                          (SELECT string_agg(v::text, ';' ORDER BY step) FROM price_evaluations v),
                          (SELECT string_agg(version::text, ';') FROM events), (SELECT count(*) FROM audit_log),
                          (SELECT count(*) FROM outbox)";
        self.sale.database.rows(sql).await
    }

    pub(super) async fn price(&self) -> i64 {
        let price =
            self.value("SELECT price FROM ticket_types ORDER BY position LIMIT 1").await.parse().unwrap();
        let id = self.sale.ticket_types[0];
        let mut redis = self.sale.redis.connect().await;
        let told: i64 = redis::cmd("HGET")
            .arg(format!("ev:{{{}}}", self.sale.event_id))
            .arg(format!("p:{id}"))
            .query_async(&mut redis)
            .await
            .unwrap();
        assert_eq!(told, price, "Redis sells at the price of Postgres");
        price
    }

    /// An organizer's new base price; `false` when somebody else was first.
    pub(super) async fn set_base_price(&self, base_price: i64) -> bool {
        let id = self.sale.ticket_types[0];
        let version = self.value(&format!("SELECT version FROM ticket_types WHERE id = '{id}'")).await;
        let expected = version.parse().unwrap();
        let target = Target { editor: self.owner(), event_id: self.sale.event_id, id, expected };
        let capacity = self.value(&format!("SELECT capacity FROM ticket_types WHERE id = '{id}'")).await;
        let fields = TicketTypeFields {
            name: "T0".to_owned(),
            description: String::new(),
            seating: Seating::General,
            capacity: capacity.parse().unwrap(),
            base_price: Money::new(base_price, "EUR"),
        };
        match events::replace_ticket_type(&self.ctx.db, &self.ctx.inventory, target, &fields).await {
            Ok(_) => {
                let (db, inventory) = (&self.ctx.db, &self.ctx.inventory);
                domain::inventory::sync_event(inventory, db, self.sale.event_id, false).await.unwrap();
                true
            }
            Err(WriteError::Stale) => false,
            Err(other) => panic!("{other}"),
        }
    }
}

/// A tenth less, whatever happens; then a tenth more once something is sold.
fn down_then_up() -> Value {
    json!({
        "enabled": true, "every_minutes": 1, "largest_step_bps": 1000,
        "utilisation": [{"from_bps": 0, "adjust_bps": -1000}, {"from_bps": 1, "adjust_bps": 1000}],
    })
}

#[tokio::test(flavor = "multi_thread")]
async fn a_due_time_is_evaluated_once_and_a_hold_keeps_its_price() {
    let shop = Shop::open(&[100], 3).await;
    let before = shop.begin(0, &[(0, 2)], "tok_ok").await;
    assert_eq!(shop.find_due().await, 0, "nobody turned it on");
    shop.rules(0, &down_then_up()).await;
    assert_eq!(shop.find_due().await, 0, "the first time is one interval from now");
    shop.let_be_due(0).await;
    assert_eq!(shop.find_due().await, 1);
    shop.reprice().await;
    assert_eq!(shop.price().await, 900);
    assert_eq!(shop.find_due().await, 0);
    assert_eq!(shop.value("SELECT t.version || ':' || e.version FROM ticket_types t, events e").await, "2:2");
    let audited = "SELECT detail -> 'prices' -> 0 ->> 'to' FROM audit_log WHERE action = 'event.repriced'
                   AND actor_id IS NULL";
    assert_eq!(shop.value(audited).await, "900");

    // Quoted before, held or under way: it is paid at the price that was quoted. Quoted since: at the new one.
    let after = shop.begin(1, &[(0, 2)], "tok_ok").await;
    shop.run(&before).await.unwrap();
    shop.run(&after).await.unwrap();
    assert_eq!(shop.booking(before.hold_id).await.booking.total, Money::new(2_000, "EUR"));
    assert_eq!(shop.booking(after.hold_id).await.booking.total, Money::new(1_800, "EUR"));
    let captured = "SELECT string_agg(captured::text, ',' ORDER BY captured) FROM sandbox_charges";
    assert_eq!(shop.value(captured).await, "1800,2000");
    shop.assert_consistent().await;
    shop.let_be_due(1_800).await;
    shop.reprice().await;
    assert_eq!(shop.price().await, 1_000, "a step at a time");
}

#[tokio::test(flavor = "multi_thread")]
async fn after_an_outage_each_event_is_evaluated_once() {
    let shop = Shop::open(&[100], 1).await;
    shop.rules(0, &down_then_up()).await;
    let evaluations = "SELECT count(*) FROM price_evaluations";
    let ahead = "SELECT next_due_at > now() AND next_due_at <= now() + interval '1 minute'
                        AND extract(second FROM next_due_at) = extract(second FROM due_at)
                 FROM pricing_rules, price_evaluations ORDER BY due_at DESC LIMIT 1";
    shop.let_be_due(600).await;
    assert_eq!(shop.find_due().await, 1);
    shop.reprice().await;
    assert_eq!((shop.value(evaluations).await, shop.value(ahead).await), ("1".into(), "t".into()));
    assert_eq!(shop.find_due().await, 0);

    // Due for more than an hour: the job of that time may be dead, and gets a successor.
    shop.let_be_due(5_000).await;
    let dead = shop.due_job().await;
    assert_eq!(shop.find_due().await, 1);
    let successor = shop.due_job().await;
    assert!(successor.due_second > dead.due_second + 4_900);
    shop.run(&dead).await.unwrap();
    assert_eq!(shop.value(evaluations).await, "1", "the dead one's time is not due any more");
    shop.reprice().await;
    assert_eq!((shop.value(evaluations).await, shop.value(ahead).await), ("2".into(), "t".into()));

    // What they saw is kept for 400 days.
    let mut conn = shop.ctx.db.conn().await.unwrap();
    assert_eq!(let_go(&mut conn, Kept::PriceEvaluations, 10).await.unwrap(), 0);
    shop.sale
        .database
        .execute("UPDATE price_evaluations SET evaluated_at = now() - interval '401 days'")
        .await;
    assert_eq!(let_go(&mut conn, Kept::PriceEvaluations, 10).await.unwrap(), 2);
}

#[tokio::test(flavor = "multi_thread")]
async fn prices_move_while_the_event_is_on_sale_and_the_rules_are_on() {
    let shop = Shop::open(&[100], 1).await;
    let rules = down_then_up();
    shop.rules(0, &rules).await;
    let due = "SELECT coalesce(next_due_at::text, 'never') FROM pricing_rules";
    for (what, closed) in [
        ("sold off", "UPDATE events SET sales_end_at = now() - interval '1 second'"),
        ("begun", "UPDATE events SET sales_end_at = now() + interval '9 days', starts_at = now()"),
        ("cancelled", "UPDATE events SET starts_at = now() + interval '10 days', status = 'cancelled'"),
        ("completed", "UPDATE events SET status = 'completed'"),
        ("draft", "UPDATE events SET status = 'draft'"),
    ] {
        shop.sale.database.execute(closed).await;
        shop.let_be_due(0).await;
        shop.run(&shop.due_job().await).await.unwrap();
        assert_eq!(shop.value(due).await, "never", "{what}");
    }
    let soon = "UPDATE events SET status = 'published', sales_start_at = date_trunc('second', now()) + interval '1 hour'";
    shop.sale.database.execute(soon).await;
    shop.let_be_due(0).await;
    shop.run(&shop.due_job().await).await.unwrap();
    let first = "SELECT next_due_at = sales_start_at + interval '1 minute' FROM events, pricing_rules";
    assert_eq!(shop.value(first).await, "t");
    shop.sale.database.execute("UPDATE events SET sales_start_at = now() - interval '1 day'").await;
    shop.let_be_due(0).await;
    let job = shop.due_job().await;
    shop.rules(1, &json!({})).await;
    assert_eq!(shop.value(due).await, "never", "off");
    shop.run(&job).await.unwrap();
    assert_eq!(shop.value("SELECT count(*) FROM price_evaluations").await, "0");
    assert_eq!(shop.value("SELECT price FROM ticket_types").await, "1000");

    // On again, and any change of the event that is on sale sets when they are due.
    shop.rules(2, &rules).await;
    shop.sale.database.execute("UPDATE pricing_rules SET next_due_at = NULL").await;
    assert!(shop.set_base_price(2_000).await);
    let soon = "SELECT next_due_at > now() AND next_due_at <= now() + interval '1 minute' FROM pricing_rules";
    assert_eq!(shop.value(soon).await, "t");
}

#[tokio::test(flavor = "multi_thread")]
async fn organizers_and_the_rules_do_not_lose_each_others_prices() {
    let shop = Shop::open(&[100, 50], 1).await;
    shop.sale.place(0, &[(0, 1)], "k").await.unwrap();
    shop.rules(0, &down_then_up()).await;
    let mut written = 0;
    for round in 0..12 {
        shop.let_be_due(20 * (13 - round)).await;
        let job = shop.due_job().await;
        let (first, second, put) =
            tokio::join!(shop.run(&job), shop.run(&job), shop.set_base_price(1_000 + 100 * (round % 3)));
        first.unwrap();
        second.unwrap();
        written += i64::from(put);
    }
    assert!(written > 0, "the organizer got through at least once");
    assert_eq!(shop.value("SELECT count(*) FROM price_evaluations").await, "12");
    // Each change begins at the price that the one before it ended at, and the last ends at the present one.
    let broken = "SELECT count(*) FROM (
                      SELECT new_price, lead(old_price) OVER w AS next_old, lead(old_base_price) OVER w AS next_base,
                             new_base_price, t.price, t.base_price, lead(h.id) OVER w IS NULL AS last
                      FROM price_history h JOIN ticket_types t ON t.id = h.ticket_type_id
                      WINDOW w AS (PARTITION BY h.ticket_type_id ORDER BY h.step)) AS chain
                  WHERE CASE WHEN last THEN (new_price, new_base_price) <> (price, base_price)
                             ELSE (new_price, new_base_price) <> (next_old, next_base) END";
    assert_eq!(shop.value(broken).await, "0");
    let outside = "SELECT count(*) FROM price_history WHERE new_price * 10 NOT BETWEEN new_base_price * 8 AND new_base_price * 15";
    assert_eq!(shop.value(outside).await, "0");
    assert!(shop.value("SELECT count(*) FROM price_history WHERE cause = 'rules'").await != "0");
    domain::inventory::sync_event(&shop.ctx.inventory, &shop.ctx.db, shop.sale.event_id, false)
        .await
        .unwrap();
    shop.price().await;
}
