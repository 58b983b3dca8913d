//! `broadcast` and `stats` on a running daemon, and `stats` on the database of one that is stopped.

use super::{Daemon, example_of_acme, in_folder};

/// Whatever the time of day is where the test runs.
const NEVER_QUIET: &str = "[quiet_hours]\nstart = \"00:00\"\nend = \"00:00\"\n";

#[test]
fn a_broadcast_goes_out_and_its_figures_outlive_the_daemon() {
    let dir = tempfile::tempdir().unwrap();
    let mut daemon = Daemon::prepare(dir.path(), NEVER_QUIET, "");
    daemon.start();
    let file = dir.path().join("broadcast.json");
    std::fs::write(&file, example_of_acme("broadcast")).unwrap();
    let dry = in_folder(&dir, &["broadcast", "broadcast.json", "--dry-run"]).expect(0);
    dry.says(&[
        "    1  email: 0.0006 EUR",
        "    3  sms: 0.05 EUR",
        "3 of 3 would be accepted",
        "nothing was sent",
    ]);
    let sent = in_folder(&dir, &["broadcast", "broadcast.json", "--key", "news-1"]).expect(0);
    sent.says(&["    1  email: sent  (msg_", "3 of 3 accepted, 0 refused: 2 by email, 1 by sms", "(bc_"]);
    let again =
        in_folder(&dir, &["broadcast", "broadcast.json", "--key", "news-1", "--json"]).expect(0).json();
    assert_eq!(again["summary"]["byStatus"]["sent"], 3);

    let broken = example_of_acme("broadcast").replace("prospect_2", "");
    std::fs::write(&file, broken).unwrap();
    let refused = in_folder(&dir, &["broadcast", "broadcast.json", "--dry-run"]).expect(1);
    refused.says(&["    2  refused: /contexts/1/prospectId", "2 of 3 would be accepted, 1 refused"]);
    in_folder(&dir, &["broadcast", "missing.json"]).expect(2).says(&["cannot be read"]);

    let figures = in_folder(&dir, &["stats", "acme"]).expect(0);
    figures.says(&["channel", "n/a", "3 accepted, 0 skipped, 0 expired", "saved against always SMS"]);
    let by_type = in_folder(&dir, &["stats", "acme", "--by", "type"]).expect(0);
    by_type.says(&["type marketing"]);
    in_folder(&dir, &["stats", "acme", "--by", "colour"]).expect(1).says(&["?by"]);
    in_folder(&dir, &["stats", "initech"]).expect(1).says(&["no tenant initech"]);
    let whole = ["stats", "acme", "--from", "2020-01-01", "--to", "2099-12-31", "--json"];
    let running = in_folder(&dir, &whole).expect(0).json();
    assert_eq!(running["totals"]["accepted"], 3);

    assert_eq!(daemon.terminate(), Some(0));
    let stopped = in_folder(&dir, &whole).expect(0).json();
    assert_eq!(stopped, running, "the same from the database alone");
    in_folder(&dir, &["stats", "acme", "--from", "soon"]).expect(2).says(&["?from"]);
    in_folder(&dir, &["broadcast", "broadcast.json"]).expect(69);
    std::fs::remove_dir_all(dir.path().join("state")).unwrap();
    in_folder(&dir, &["stats", "acme"]).expect(69).says(&["no daemon answers"]);
}
