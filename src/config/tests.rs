//! Settings from every source, and what is said of wrong ones.

use std::path::Path;

use super::*;

fn environment(variables: &[(&str, &str)]) -> Environment {
    Environment::new(variables.iter().map(|(name, value)| ((*name).to_owned(), (*value).to_owned())))
}

fn parse(text: &str) -> (file::FileSettings, Vec<Diagnostic>) {
    let mut faults = Vec::new();
    (file::parse("orchestrator.toml", Path::new("/etc/x"), text, &mut faults), faults)
}

#[test]
fn the_reference_holds_the_defaults_and_names_every_key() {
    let (settings, faults) = parse(REFERENCE);
    assert_eq!(faults, []);
    assert_eq!(settings.limits, Limits::default());
    assert!(settings.drivers.is_empty() && settings.allowed_hosts.is_empty());
    // What is commented out is still right once the `# ` before it is taken away.
    let a_setting = |rest: &str| rest.split_once(" = ").is_some_and(|(key, _)| !key.contains(' '));
    let opened: String = REFERENCE
        .lines()
        .map(|line| match line.strip_prefix("# ") {
            Some(rest) if rest.starts_with('[') || a_setting(rest) => rest,
            _ => line,
        })
        .flat_map(|line| [line, "\n"])
        .collect();
    let (settings, faults) = parse(&opened.replace("[limits]", "[limits_]"));
    assert!(faults.iter().all(|fault| fault.message.contains("limits_")), "{faults:#?}");
    assert!(settings.state_dir.is_some() && settings.policies.is_some() && settings.socket.is_some());
    assert!(settings.public_listen.is_some() && settings.public_url.is_some());
    assert!(settings.listen.is_some() && settings.database.is_some() && settings.log.is_some());
}

#[test]
fn every_fault_is_told_at_once_with_its_line_and_the_key_that_was_meant() {
    let text = "sokcet = \"x\"\nlisten = 80\n[limits]\nconcurency = 3\nconnections = 0\n[drivers.relay]\npassword = \"hunter2\"\n";
    let (_, faults) = parse(text);
    let told: Vec<String> = faults.iter().map(ToString::to_string).collect();
    assert_eq!(
        told,
        [
            "orchestrator.toml:1:1: `sokcet` is not a key of orchestrator.toml (did you mean `socket`?)",
            "orchestrator.toml:2:10: `listen` is integer: expected a text that is not empty",
            "orchestrator.toml:4:1: `concurency` is not a key of [limits] (did you mean `concurrency`?)",
            "orchestrator.toml:5:15: `connections` is integer: expected a whole number from 1 to 100000",
            "orchestrator.toml:7:12: `password` holds a secret in plain text (name where it is kept: \
             `env:VARIABLE` or `file:/path/to/secret`)",
        ]
    );
    let shown = serde_json::to_string(&faults).unwrap();
    assert!(!shown.contains("hunter2"), "a secret is repeated: {shown}");
}

#[test]
fn a_file_that_is_no_toml_says_where() {
    let (_, faults) = parse("listen = \"127.0.0.1:80\n");
    assert_eq!((faults[0].line, faults[0].code.as_str()), (Some(1), "toml-syntax"));
}

#[test]
fn the_environment_beats_the_file_and_flags_beat_both() {
    let dir = tempfile::tempdir().unwrap();
    let file = dir.path().join("orchestrator.toml");
    std::fs::write(&file, "state_dir = \"state\"\nsocket = \"/run/file.sock\"\nlisten = \"127.0.0.1:1\"\n")
        .unwrap();
    let flags = Flags { config: Some(file), ..Flags::default() };
    let config = Config::load(&flags, &environment(&[])).unwrap();
    assert_eq!(config.state_dir, dir.path().join("state"), "relative to the file's folder");
    assert_eq!(config.socket, Path::new("/run/file.sock"));
    let variables = environment(&[("ORCHESTRATOR_SOCKET", "/run/env.sock"), ("ORCHESTRATOR_LISTEN", "")]);
    let config = Config::load(&flags, &variables).unwrap();
    assert_eq!(config.socket, Path::new("/run/env.sock"));
    assert_eq!(config.listen, Some("127.0.0.1:1".parse().unwrap()), "an empty value counts as unset");
    let flags = Flags { socket: Some("/run/flag.sock".into()), ..flags };
    assert_eq!(Config::load(&flags, &variables).unwrap().socket, Path::new("/run/flag.sock"));
}

#[test]
fn state_is_kept_where_systemd_the_operator_or_xdg_say() {
    let state = |variables: &[(&str, &str)]| {
        let flags = Flags { policies: Some("p".into()), ..Flags::default() };
        Config::load(&flags, &environment(variables)).map(|config| config.state_dir.display().to_string())
    };
    let all = [
        ("STATE_DIRECTORY", "/var/lib/a:/var/lib/b"),
        ("ORCHESTRATOR_STATE_DIR", "/own"),
        ("XDG_STATE_HOME", "/xdg"),
        ("HOME", "/home/x"),
    ];
    assert_eq!(state(&all).unwrap(), "/var/lib/a");
    assert_eq!(state(&all[1..]).unwrap(), "/own");
    assert_eq!(state(&all[2..]).unwrap(), "/xdg/channel-orchestrator");
    assert_eq!(state(&all[3..]).unwrap(), "/home/x/.local/state/channel-orchestrator");
    let relative = [("XDG_STATE_HOME", "xdg"), ("HOME", "/home/x")];
    assert_eq!(state(&relative).unwrap(), "/home/x/.local/state/channel-orchestrator");
    assert!(state(&[]).unwrap_err().to_string().contains("ORCHESTRATOR_STATE_DIR"));
}

#[test]
fn variables_that_nobody_reads_are_remarked_on() {
    let variables = environment(&[
        ("HOME", "/home/x"),
        ("ORCHESTRATOR_SOKET", "/x"),
        ("ORCHESTRATOR_MAX_COST_PER_MESSAGE", "0.20"),
    ]);
    let config = Config::load(&Flags::default(), &variables).unwrap();
    let told: Vec<String> = config.warnings.iter().map(ToString::to_string).collect();
    assert_eq!(told.len(), 1, "{told:?}");
    assert!(told[0].contains("did you mean ORCHESTRATOR_SOCKET?"), "{told:?}");
    let PolicyEnvironment(policy) = config.policy_environment;
    assert_eq!(policy, [("ORCHESTRATOR_MAX_COST_PER_MESSAGE".to_owned(), "0.20".to_owned())]);
}

#[test]
fn the_public_side_needs_its_address_and_says_what_is_wrong_with_it() {
    let load = |variables: &[(&str, &str)]| {
        let home = [("HOME", "/h")];
        Config::load(&Flags::default(), &environment(&[&home[..], variables].concat()))
    };
    assert_eq!(load(&[]).unwrap().public, PublicSide::default(), "off by default");
    let (listen, url) = ("ORCHESTRATOR_PUBLIC_LISTEN", "ORCHESTRATOR_PUBLIC_URL");
    let config = load(&[(listen, "127.0.0.1:8081"), (url, "https://msg.example.com/")]).unwrap();
    assert_eq!(config.public.url.as_deref(), Some("https://msg.example.com"));
    assert_eq!(config.public.listen, Some("127.0.0.1:8081".parse().unwrap()));
    assert_eq!(config.warnings, []);
    for (variables, words) in [
        (&[(listen, "127.0.0.1:8081")][..], "public_url is not"),
        (&[(listen, "8081"), (url, "https://x")], "not an address to listen on"),
        (&[(url, "http://msg.example.com")], "http is only for this machine"),
    ] {
        let told = load(variables).unwrap_err().to_string();
        assert!(told.contains(words), "{told}");
    }
    let config = load(&[(url, "https://msg.example.com")]).unwrap();
    assert!(config.warnings[0].message.contains("no public listener"), "{:?}", config.warnings);
    let (settings, faults) = parse("public_listen = 1\ntrusted_proxies = [\"10.0.0.0/8\"]\n");
    assert_eq!((faults.len(), settings.trusted_proxies.len()), (1, 1));
}

#[test]
fn wrong_addresses_and_databases_are_refused() {
    let variables = environment(&[
        ("HOME", "/h"),
        ("ORCHESTRATOR_LISTEN", "8080"),
        ("ORCHESTRATOR_DATABASE", "mysql://x"),
    ]);
    let faults = Config::load(&Flags::default(), &variables).unwrap_err().0;
    let codes: Vec<&str> = faults.iter().map(|fault| fault.code.as_str()).collect();
    assert_eq!(codes, ["listen", "database"]);
}
