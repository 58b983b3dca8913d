//! LuaJIT (mlua): one call a decision; the nine criteria are functions, and Lua weighs and ranks.
//!
//! Timed: writing the facts into tables that are kept from request to request (cheaper than new ones; flat, and only
//! the fields that the criteria read), the call, and the choice and alternatives as numbers. Scores and reasons stay
//! in Lua's own values: reading them would cost more.

use channel_orchestrator::domain::channel::{Channel, PerChannel};
use mlua::{Function, Lua, Table};

use crate::{
    engine::Engine,
    outcome::{Outcome, Scored},
    stream::Case,
};

pub struct LuaJit {
    decide: Function,
    message: Table,
    channels: PerChannel<Table>,
    /// The four, as Lua sees them.
    list: Table,
    /// Last: what is above lives in it.
    _lua: Lua,
}

pub struct Answer {
    /// Places in `Channel::ALL` from 1; 0: none.
    chosen: [usize; 3],
    ranked: Table,
}

impl LuaJit {
    pub fn new() -> Self {
        let lua = Lua::new();
        let decide = lua.load(include_str!("../rules/rules.lua")).eval().expect("good rules");
        let table = || lua.create_table().expect("memory");
        let channels = PerChannel::from_fn(|_| table());
        let list = table();
        for (channel, table) in channels.iter() {
            table.raw_set("name", channel.as_str()).expect("memory");
            list.raw_set(channel.index() + 1, table).expect("memory");
        }
        Self { decide, message: table(), channels, list, _lua: lua }
    }

    fn tell(&self, case: &Case) -> mlua::Result<()> {
        let (message, table) = (&case.message, &self.message);
        table.raw_set("type", message.kind.map(|kind| kind.as_str()))?;
        table.raw_set("priority", message.priority.as_str())?;
        table.raw_set("length", message.length)?;
        table.raw_set("has_html", message.has_html)?;
        table.raw_set("has_attachments", message.has_attachments)?;
        table.raw_set("quiet", message.quiet)?;
        table.raw_set("allow_sms_in_quiet_hours", message.allow_sms_in_quiet_hours)?;
        for (channel, table) in self.channels.iter() {
            let facts = &case.channels[channel];
            table.raw_set("preferred", facts.preferred)?;
            table.raw_set("disabled", facts.disabled)?;
            table.raw_set("available", facts.available)?;
            table.raw_set("cost", facts.cost)?;
            table.raw_set("known", facts.history.known)?;
            // The others are read only where this is so.
            if facts.history.known {
                table.raw_set("rate", facts.history.rate)?;
                table.raw_set("average", facts.history.average)?;
                table.raw_set("engaged", facts.history.engaged)?;
                table.raw_set("received", facts.history.received)?;
            }
        }
        Ok(())
    }
}

impl Engine for LuaJit {
    type Said = Answer;

    fn score(&mut self, case: &Case) -> Answer {
        self.tell(case).expect("memory");
        let answer: mlua::Result<(usize, usize, usize, Table)> =
            self.decide.call((&self.message, &self.list));
        let (first, second, third, ranked) = answer.expect("the criteria do not fail");
        Answer { chosen: [first, second, third], ranked }
    }

    fn spell(&self, _case: &Case, said: Answer) -> Outcome {
        let ranked = said.ranked.sequence_values::<Table>().map(|one| scored(&one.expect("a table")));
        let channel = |place: usize| place.checked_sub(1).map(|at| Channel::ALL[at]);
        let [first, second, third] = said.chosen.map(channel);
        Outcome {
            ranked: ranked.map(|one| one.expect("place, open, score and reasons")).collect(),
            chosen: first,
            alternatives: [second, third].into_iter().flatten().collect(),
        }
    }
}

fn scored(one: &Table) -> mlua::Result<Scored> {
    let place: usize = one.get("place")?;
    Ok(Scored {
        channel: Channel::ALL[place - 1],
        open: one.get("open")?,
        score: one.get("score")?,
        reasons: one.get("reasons")?,
    })
}
