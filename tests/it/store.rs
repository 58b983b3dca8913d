//! The store keeps its promises: one suite, run on SQLite and, where ORCHESTRATOR_TEST_POSTGRES holds a URL, on
//! PostgreSQL. After each test an auditor looks for broken invariants (reliability.md section 5.3) in plain SQL.

mod acceptance;
pub mod audit;
mod consent;
mod delivery;
mod engagement;
mod failure;
pub(crate) mod fixture;
mod knowledge;
mod life;
mod links;
mod messages;
mod numbers;
mod operating;
mod recall;
mod recovery;
pub mod returns;
mod settling;
mod upkeep;
mod webhooks;

/// Each test twice: `sqlite::name` and `postgres::name`.
macro_rules! on_both {
    ($($name:ident),+ $(,)?) => {
        mod sqlite {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let base = crate::store::fixture::Base::sqlite();
                super::$name(&base).await;
                base.audit().await;
            })+
        }
        mod postgres {
            $(#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
            async fn $name() {
                let Some(base) = crate::store::fixture::Base::postgres().await else { return };
                super::$name(&base).await;
                base.audit().await;
                base.drop_schema().await;
            })+
        }
    };
}
use on_both;
