//! Links and unsubscribing outlive a mail's words as far as they can: a link until the message is gone, a refusal
//! as long as it is known to whom the mail went.

use channel_orchestrator::{
    domain::delivery::Next,
    store::{Engagement, Intake, Keep, Life, Links, Queue},
};
use chrono::{TimeDelta, Utc};

use super::{
    fixture::{Base, accepted, at, begin, claim_one, message, tenant},
    on_both,
};

async fn links_outlive_words_and_go_with_the_message(base: &Base) {
    let store = base.open().await;
    let mut mail = message();
    if let Some(plan) = &mut mail.plan {
        plan.hops.remove(0);
    }
    store.accept(mail.clone()).await.unwrap();
    store.put_links(mail.id, &["https://a.example/".to_owned()]).await.unwrap();
    let claimed = claim_one(&store, "w", at(1)).await;
    let attempt = begin(&store, &claimed, at(1)).await;
    store.settle(&claimed, attempt, &accepted(), &Next::Sent, at(2)).await.unwrap();
    assert_eq!(store.unsubscribe(mail.id, at(3)).await.unwrap(), Some(tenant()));

    let now = Utc::now() + TimeDelta::days(91);
    let done = store.forget_some(&tenant(), Keep::of_days(now, 90, 400), now).await.unwrap();
    assert_eq!((done.words, done.messages), (1, 0));
    let link = store.link(mail.id, 0).await.unwrap().expect("the link still leads somewhere");
    assert_eq!((link.url.as_str(), link.of), ("https://a.example/", 1));
    // Nobody is refused, and nobody is told that they were.
    assert_eq!(store.unsubscribe(mail.id, now).await.unwrap(), None);
    let refused = base.texts("SELECT address FROM suppressions").await;
    assert_eq!(refused, ["zoe@example.fr"], "one refusal, of the address that was known");

    let later = now + TimeDelta::days(400);
    let done = store.forget_some(&tenant(), Keep::of_days(later, 90, 400), later).await.unwrap();
    assert_eq!(done.messages, 1);
    assert_eq!(store.link(mail.id, 0).await.unwrap(), None);
}

on_both!(links_outlive_words_and_go_with_the_message);
