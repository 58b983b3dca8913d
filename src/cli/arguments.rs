//! The command line: what can be asked, with two examples for each command.
//!
//! Shapes only. What a command does is in the file of its name.

use std::path::PathBuf;

use clap::{Args, Parser, Subcommand};

use crate::config::Flags;

/// Decides, for every message a business sends, whether it goes by SMS, email, WhatsApp or Telegram; says why;
/// and sends it.
#[derive(Debug, Parser)]
#[command(
    name = "orchestrator",
    version,
    args_conflicts_with_subcommands = false,
    subcommand_negates_reqs = true,
    after_help = "Examples:\n  \
        orchestrator serve\n  \
        orchestrator --explain examples/requests/quiet_hours.json --at 2025-11-14T23:00:00+01:00\n\n\
        Exit codes: 0 ok, 1 the answer is no, 2 usage, 69 no daemon answers, 75 try again, 78 bad settings."
)]
pub struct Arguments {
    #[command(subcommand)]
    pub command: Option<Command>,
    #[command(flatten)]
    pub explain: ExplainArguments,
    #[command(flatten)]
    pub global: Global,
}

/// Taken by every command.
#[derive(Clone, Debug, Default, Args)]
pub struct Global {
    /// Answer in JSON.
    #[arg(long, global = true)]
    pub json: bool,
    /// The settings file [default: ./orchestrator.toml, else the machine's].
    #[arg(long, value_name = "FILE", global = true)]
    pub config: Option<PathBuf>,
    /// Where the daemon keeps what it keeps.
    #[arg(long, value_name = "DIR", global = true)]
    pub state_dir: Option<PathBuf>,
    /// The policies folder.
    #[arg(long, value_name = "DIR", global = true)]
    pub policies: Option<PathBuf>,
    /// The daemon's Unix socket.
    #[arg(long, value_name = "PATH", global = true)]
    pub socket: Option<PathBuf>,
    /// `sqlite:PATH` or `postgres://...`.
    #[arg(long, value_name = "URL", global = true)]
    pub database: Option<String>,
}

impl Global {
    pub fn flags(&self) -> Flags {
        Flags {
            config: self.config.clone(),
            state_dir: self.state_dir.clone(),
            policies: self.policies.clone(),
            socket: self.socket.clone(),
            listen: None,
            public_listen: None,
            public_url: None,
            database: self.database.clone(),
            log: None,
        }
    }
}

/// Why a message goes where it goes. Offline, unless `--message` names one that was sent.
#[derive(Clone, Debug, Default, Args)]
pub struct ExplainArguments {
    /// Explain where this request would go and why, offline, without sending anything; `-` is standard input.
    #[arg(long, value_name = "FILE", num_args = 0..=1, default_missing_value = "")]
    pub explain: Option<String>,
    /// With --explain: a message that the daemon has, instead of a file.
    #[arg(long, value_name = "ID", requires = "explain")]
    pub message: Option<String>,
    /// With --explain: decide as if it were this instant, such as 2025-11-14T23:00:00+01:00.
    #[arg(long, value_name = "RFC3339", requires = "explain")]
    pub at: Option<String>,
    /// With --explain: decide under this variant of the tenant's policy.
    #[arg(long, value_name = "NAME", requires = "explain")]
    pub variant: Option<String>,
    /// With --explain: list the line of the script behind each reason.
    #[arg(long, requires = "explain")]
    pub sources: bool,
}

#[derive(Debug, Subcommand)]
pub enum Command {
    /// Run the daemon.
    #[command(after_help = "Examples:\n  orchestrator serve\n  \
        orchestrator serve --policies ./policies --listen 127.0.0.1:8080")]
    Serve {
        /// Take TCP connections as well, with keys: an address and a port.
        #[arg(long, value_name = "ADDRESS")]
        listen: Option<String>,
        /// Take callbacks, opens, clicks and unsubscriptions from the internet: an address and a port.
        #[arg(long, value_name = "ADDRESS")]
        public_listen: Option<String>,
        /// How that is reached from outside, such as https://msg.example.com.
        #[arg(long, value_name = "URL")]
        public_url: Option<String>,
        /// What to log, such as `info` or `channel_orchestrator::delivery=debug`.
        #[arg(long, value_name = "FILTER")]
        log: Option<String>,
    },
    /// Send a message through the running daemon.
    #[command(after_help = "Examples:\n  orchestrator send examples/requests/urgent.json\n  \
        orchestrator send request.json --key order-1234 --wait 10")]
    Send(SendArguments),
    /// Send one content to many people through the running daemon.
    #[command(
        after_help = "Examples:\n  orchestrator broadcast examples/requests/broadcast.json --dry-run\n  \
        orchestrator broadcast newsletter.json --key newsletter-2025-11"
    )]
    Broadcast(BroadcastArguments),
    /// What every channel came to: sent, delivered, opened, cost, saved. Works on a stopped daemon's database too.
    #[command(after_help = "Examples:\n  orchestrator stats tenant_123\n  \
        orchestrator stats tenant_123 --from 2025-11-01 --to 2025-11-30 --by template --json")]
    Stats(StatsArguments),
    /// Check a policies folder: every fault with its line and how to mend it.
    #[command(
        after_help = "Examples:\n  orchestrator check\n  orchestrator check ./policies --origins tenant_123"
    )]
    Check {
        /// [default: the policies that `serve` would use]
        dir: Option<PathBuf>,
        /// Where each value of this tenant's policy comes from, instead.
        #[arg(long, value_name = "TENANT")]
        origins: Option<String>,
    },
    /// Run the policy tests of a policies folder.
    #[command(
        after_help = "Examples:\n  orchestrator test\n  orchestrator test ./policies --tenant tenant_123"
    )]
    Test {
        /// [default: the policies that `serve` would use]
        dir: Option<PathBuf>,
        /// Only this tenant's tests.
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
    },
    /// Print the JSON Schema of policy files or of templates, for editors.
    #[command(after_help = "Examples:\n  orchestrator schema > policy.schema.json\n  \
        orchestrator schema --templates > template.schema.json")]
    Schema {
        /// Print what scripts may read and say, and what templates may do with a value, instead.
        #[arg(long)]
        reference: bool,
        /// Print the schema of templates/*.toml.
        #[arg(long, conflicts_with = "reference")]
        templates: bool,
    },
    /// Which policies the running daemon has in force, and why the files are not.
    #[command(
        args_conflicts_with_subcommands = true,
        after_help = "Examples:\n  orchestrator policies\n  orchestrator policies tenant_123"
    )]
    Policies {
        /// Only this tenant's, with its criteria and weights.
        tenant: Option<String>,
        #[command(subcommand)]
        action: Option<PoliciesAction>,
    },
    /// API keys for TCP; they are kept in the database, whether the daemon runs or not.
    #[command(
        after_help = "Examples:\n  orchestrator keys add tenant_123 --scope send,read --expires 90d\n  \
        orchestrator keys list"
    )]
    Keys {
        #[command(subcommand)]
        action: KeysAction,
    },
    /// Decisions and outcomes of the running daemon, as they happen; no personal data.
    #[command(after_help = "Examples:\n  orchestrator tail\n  orchestrator tail --tenant tenant_123 --json")]
    Tail {
        #[arg(long, value_name = "TENANT")]
        tenant: Option<String>,
    },
    /// Send one real message through one driver, without a daemon, and show what was said with secrets hidden.
    #[command(after_help = "Examples:\n  orchestrator trial --channel sms --to +33612345678\n  \
        orchestrator trial --channel email --to me@example.com --driver relay --text \"Does it arrive?\"")]
    Trial(TrialArguments),
    /// What to do with a message that needs a person: `unresolved` or `quarantined`.
    #[command(after_help = "Examples:\n  \
        orchestrator messages settle msg_0198c0de000070008000000000000000 --as sent --by zoe --reason \"he has it\"\n  \
        orchestrator messages resend msg_0198c0de000070008000000000000000 --by zoe --reason \"she never got it\"")]
    Messages {
        #[command(subcommand)]
        action: MessagesAction,
    },
    /// Have the messages of a tenant, or by a driver, wait; their deadlines go on counting.
    #[command(after_help = "Examples:\n  \
        orchestrator pause tenant tenant_123 --by zoe --reason \"a wrong list was imported\"\n  \
        orchestrator pause driver twilio --by zoe --reason maintenance")]
    Pause {
        kind: Pausable,
        name: String,
        #[command(flatten)]
        by: ByArguments,
    },
    /// Let what was paused go on.
    #[command(after_help = "Examples:\n  \
        orchestrator resume tenant tenant_123 --by zoe --reason \"the list is mended\"\n  \
        orchestrator resume driver twilio --by zoe --reason \"maintenance is over\"")]
    Resume {
        kind: Pausable,
        name: String,
        #[command(flatten)]
        by: ByArguments,
    },
    /// Erase a person: words, addresses and name now; refusals go on holding, by a hash.
    #[command(after_help = "Examples:\n  \
        orchestrator erase tenant_123 prospect_456 --by zoe --reason \"asked for by letter\"\n  \
        orchestrator erase tenant_123 prospect_456 --by zoe --reason \"GDPR, article 17\" --json")]
    Erase {
        tenant: String,
        /// The `prospectId`.
        recipient: String,
        #[command(flatten)]
        by: ByArguments,
    },
    /// What operators did, who and why, and what is paused.
    #[command(after_help = "Examples:\n  orchestrator acts\n  orchestrator acts --limit 200 --json")]
    Acts {
        /// The most to show.
        #[arg(long, default_value_t = 50, value_parser = clap::value_parser!(u32).range(1..=200))]
        limit: u32,
    },
    /// Check what is kept against what must never be found there; nothing is changed, and the daemon may run.
    #[command(after_help = "Examples:\n  orchestrator audit\n  orchestrator audit --json")]
    Audit,
    /// Copy the embedded database to FILE while the daemon runs, and check the copy.
    #[command(after_help = "Examples:\n  orchestrator backup /var/backups/orchestrator-2025-11-14.db\n  \
        orchestrator serve --database sqlite:/var/backups/orchestrator-2025-11-14.db")]
    Backup {
        /// A file that is not there yet.
        file: PathBuf,
    },
    /// Bring a mail that came back (a bounce, a delay, a complaint) to the daemon, from standard input or FILE; for a mail
    /// server's pipe: whatever goes wrong ends with 75, and the mail server comes again.
    #[command(after_help = "Examples:\n  orchestrator bounce < returned.eml\n  \
        |/usr/local/bin/orchestrator bounce --socket /run/orchestrator.sock    (in Postfix's aliases)")]
    Bounce(BounceArguments),
    /// Print a completion script for a shell.
    #[command(after_help = "Examples:\n  \
        orchestrator completions bash > ~/.local/share/bash-completion/completions/orchestrator\n  \
        orchestrator completions fish > ~/.config/fish/completions/orchestrator.fish")]
    Completions { shell: clap_complete::Shell },
}

#[derive(Clone, Debug, Args)]
pub struct BounceArguments {
    /// A mail in a file; standard input without.
    pub file: Option<PathBuf>,
    /// The address that it was delivered to [default: the environment's ORIGINAL_RECIPIENT, then the mail's headers].
    #[arg(long, value_name = "ADDRESS")]
    pub to: Option<String>,
}

#[derive(Clone, Debug, Args)]
pub struct TrialArguments {
    /// sms, email, whatsapp or telegram.
    #[arg(long)]
    pub channel: String,
    /// Where it goes: a number, a mailbox, a chat. `allow_recipients` is obeyed.
    #[arg(long, value_name = "ADDRESS")]
    pub to: String,
    /// A driver of `[drivers.NAME]` [default: the channel's first].
    #[arg(long, value_name = "NAME")]
    pub driver: Option<String>,
    /// The sender [default: the driver's own].
    #[arg(long, value_name = "SENDER")]
    pub from: Option<String>,
    #[arg(long, default_value = "A trial of the Channel Orchestrator: if you read this, it works.")]
    pub text: String,
    /// How a national number is read [default: FR].
    #[arg(long, value_name = "COUNTRY")]
    pub region: Option<String>,
    /// The person wrote to this sender within the last 24 hours: WhatsApp takes free text only then.
    #[arg(long)]
    pub in_window: bool,
}

/// Who does it, and why.
#[derive(Clone, Debug, Args)]
pub struct ByArguments {
    /// Why: it is kept in the log, and shown on the message.
    #[arg(long, value_name = "WORDS")]
    pub reason: String,
    /// Who does it.
    #[arg(long, value_name = "NAME")]
    pub by: String,
}

/// What can be paused.
#[derive(Clone, Copy, Debug, clap::ValueEnum)]
pub enum Pausable {
    Tenant,
    Driver,
}

#[derive(Debug, Subcommand)]
pub enum MessagesAction {
    /// Send an `unresolved` message once more, although it may have arrived.
    #[command(after_help = "Examples:\n  \
        orchestrator messages resend msg_0198c0de000070008000000000000000 --by zoe --reason \"she never got it\"\n  \
        orchestrator messages resend msg_0198c0de000070008000000000000000 --by zoe --reason \"not in their log\" --json")]
    Resend {
        id: String,
        #[command(flatten)]
        by: ByArguments,
    },
    /// Say what became of an `unresolved` message.
    #[command(after_help = "Examples:\n  \
        orchestrator messages settle msg_0198c0de000070008000000000000000 --as sent --by zoe --reason \"he has it\"\n  \
        orchestrator messages settle msg_0198c0de000070008000000000000000 --as failed --by zoe --reason \"not in their log\"")]
    Settle {
        id: String,
        /// What became of it.
        #[arg(long = "as", value_name = "OUTCOME", value_parser = ["sent", "failed"])]
        outcome: String,
        #[command(flatten)]
        by: ByArguments,
    },
    /// Let a `quarantined` message go on where it stood.
    #[command(after_help = "Examples:\n  \
        orchestrator messages release msg_0198c0de000070008000000000000000 --by zoe --reason \"mended in 1.2\"\n  \
        orchestrator messages release msg_0198c0de000070008000000000000000 --by zoe --reason \"mended in 1.2\" --json")]
    Release {
        id: String,
        #[command(flatten)]
        by: ByArguments,
    },
}

/// What operators do, whichever command it is.
#[derive(Debug)]
pub enum ActsAction {
    Message(MessagesAction),
    Pause { kind: Pausable, name: String, by: ByArguments },
    Resume { kind: Pausable, name: String, by: ByArguments },
    Erase { tenant: String, recipient: String, by: ByArguments },
    List { limit: u32 },
}

#[derive(Clone, Debug, Args)]
pub struct SendArguments {
    /// The request, as JSON; `-` is standard input.
    pub request: String,
    /// Show where it would go and why, and send nothing.
    #[arg(long)]
    pub explain: bool,
    /// Idempotency-Key: the same key sends once, however often it is repeated.
    #[arg(long, value_name = "KEY", conflicts_with = "explain")]
    pub key: Option<String>,
    /// Seconds to wait for an outcome [default: 5].
    #[arg(long, value_name = "SECONDS", conflicts_with = "explain", value_parser = clap::value_parser!(u32).range(0..=30))]
    pub wait: Option<u32>,
    /// With --explain: list the line of the script behind each reason.
    #[arg(long, requires = "explain")]
    pub sources: bool,
}

#[derive(Clone, Debug, Args)]
pub struct BroadcastArguments {
    /// The request, as JSON (`contexts` and `content`); `-` is standard input.
    pub file: String,
    /// Say where each row would go and at what cost, and send nothing.
    #[arg(long)]
    pub dry_run: bool,
    /// Idempotency-Key: the same key sends once, however often it is repeated.
    #[arg(long, value_name = "KEY", conflicts_with = "dry_run")]
    pub key: Option<String>,
    /// Seconds to wait for outcomes [default: 5].
    #[arg(long, value_name = "SECONDS", conflicts_with = "dry_run", value_parser = clap::value_parser!(u32).range(0..=30))]
    pub wait: Option<u32>,
}

#[derive(Clone, Debug, Args)]
pub struct StatsArguments {
    pub tenant: String,
    /// The first day, in the tenant's zone [default: 30 days up to TO].
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub from: Option<String>,
    /// The last day [default: today].
    #[arg(long, value_name = "YYYY-MM-DD")]
    pub to: Option<String>,
    /// One channel only.
    #[arg(long)]
    pub channel: Option<String>,
    /// One messageType only; `none` for messages without.
    #[arg(long = "type", value_name = "TYPE")]
    pub kind: Option<String>,
    /// One template only.
    #[arg(long)]
    pub template: Option<String>,
    /// One campaign or broadcast only.
    #[arg(long, value_name = "ID")]
    pub campaign: Option<String>,
    /// One variant only.
    #[arg(long)]
    pub variant: Option<String>,
    /// Apart by one or two of day, type, template, campaign, variant.
    #[arg(long, value_name = "DIMENSIONS")]
    pub by: Option<String>,
}

#[derive(Debug, Subcommand)]
pub enum PoliciesAction {
    /// One tenant's, with its criteria and weights: for a tenant that is named like a command, such as `reload`.
    #[command(
        after_help = "Examples:\n  orchestrator policies show tenant_123\n  orchestrator policies show reload"
    )]
    Show { tenant: String },
    /// Read the folder again, now, and say what came of it.
    #[command(
        after_help = "Examples:\n  orchestrator policies reload\n  orchestrator policies reload --json"
    )]
    Reload,
    /// The versions that a tenant's policy had, newest first.
    #[command(after_help = "Examples:\n  orchestrator policies history tenant_123\n  \
        orchestrator policies history tenant_123 --json")]
    History { tenant: String },
    /// How the files of two versions differ.
    #[command(after_help = "Examples:\n  orchestrator policies diff tenant_123\n  \
        orchestrator policies diff tenant_123 e46176885dfa 612a9cb7f41b")]
    Diff {
        tenant: String,
        /// A version, or its first digits [default: the newest beside TO].
        from: Option<String>,
        /// [default: the one in force]
        to: Option<String>,
    },
    /// Put an earlier version in force, until the tenant's files change.
    #[command(after_help = "Examples:\n  orchestrator policies rollback tenant_123 e46176885dfa\n  \
        orchestrator policies rollback tenant_123 e46176885dfa --json")]
    Rollback {
        tenant: String,
        /// As `history` shows it; its first digits will do.
        version: String,
    },
    /// Drop a tenant whose file is gone: its policy and its history, not its messages.
    #[command(after_help = "Examples:\n  orchestrator policies forget tenant_123\n  \
        orchestrator policies forget tenant_123 --json")]
    Forget { tenant: String },
}

#[derive(Debug, Subcommand)]
pub enum KeysAction {
    /// Make a key; it is shown once.
    #[command(after_help = "Examples:\n  orchestrator keys add tenant_123\n  \
        orchestrator keys add tenant_123 --scope read --label dashboard --expires 90d")]
    Add {
        tenant: String,
        /// What it may do.
        #[arg(long, value_name = "SCOPES", value_delimiter = ',', default_value = "send,read", value_parser = ["send", "read", "admin"])]
        scope: Vec<String>,
        /// What it is for, in your own words.
        #[arg(long, default_value = "")]
        label: String,
        /// How long it works: days or hours, such as 90d or 12h [default: until it is revoked].
        #[arg(long, value_name = "TIME")]
        expires: Option<String>,
    },
    /// List the keys, never the keys themselves.
    #[command(
        after_help = "Examples:\n  orchestrator keys list\n  orchestrator keys list --tenant tenant_123 --json"
    )]
    List {
        #[arg(long)]
        tenant: Option<String>,
    },
    /// Take a key out of force.
    #[command(after_help = "Examples:\n  orchestrator keys revoke ok_1a2b3c4d5\n  \
        orchestrator keys revoke ok_1a2b3c4d5 --json")]
    Revoke {
        /// The first 12 characters, as `keys list` shows them.
        prefix: String,
    },
}
