//! The words of one message on every channel, with their measures: a template's forms, or what the caller wrote.
//!
//! Made once for each decision, so that what was measured is what is sent. A template that a request names
//! renders or refuses: the caller's own body never goes out in its place.

use std::borrow::Cow;

use super::{DataFault, Form, Template, Unknown, data::Given, find, language, part};
use crate::{
    domain::{
        channel::{Channel, PerChannel},
        delivery::{ApprovedTemplate, Rendered},
        message::{Content, ContentProfile, MessageRequest},
        segments,
    },
    policy::bundle::Bundle,
};

/// What the words are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Need {
    /// To be sent: a template that cannot be rendered is a fault.
    Send,
    /// To be decided about only. Before the words are there a decision may be asked for: with no data at all the
    /// template's own example stands in, and a template that does not exist yet lets the body be measured.
    Measure,
}

/// What would go on each channel.
#[derive(Clone, Debug, Default)]
pub struct Words {
    /// What scripts see: the SMS form's length where there is one.
    pub message: ContentProfile,
    pub channels: PerChannel<ContentProfile>,
    /// None: the caller's own content, on every channel.
    pub rendering: Option<Rendering>,
    /// What sending would have to be told, where it is only measured.
    pub note: Option<String>,
}

/// A template rendered for one request.
#[derive(Clone, Debug)]
pub struct Rendering {
    pub template: String,
    pub locale: String,
    /// None: the template has no form for that channel in that language.
    pub forms: PerChannel<Option<Rendered>>,
}

impl Words {
    /// The caller's own content, the same on every channel.
    pub fn plain(content: &Content) -> Self {
        let message = content.profile();
        Self { message, channels: PerChannel::from_fn(|_| message), ..Self::default() }
    }

    /// The words of a request under a bundle.
    ///
    /// # Errors
    /// Everything that keeps the template from being rendered: an unknown name, missing data.
    pub fn of(bundle: &Bundle, request: &MessageRequest, need: Need) -> Result<Self, Vec<DataFault>> {
        let content = &request.content;
        let Some(id) = &content.template else { return Ok(Self::plain(content)) };
        let template = match find(bundle.templates(), id) {
            Ok(template) => template,
            Err(unknown) if need == Need::Measure && has_words(content) => {
                let note =
                    Some(format!("there is no template {:?}: sending it would be refused", unknown.id));
                return Ok(Self { note, ..Self::plain(content) });
            }
            Err(unknown) => return Err(vec![unknown.into()]),
        };
        let policy = bundle.policy();
        let wanted = [request.locale.as_deref().unwrap_or(&policy.locale), &policy.locale];
        let locale = template.locale(&wanted);
        let zone = request.time_zone.unwrap_or(policy.time_zone);
        let given = Given::of(request);
        let faults = given.faults(template);
        let (given, note) = if !faults.is_empty() && need == Need::Measure && content.data.is_empty() {
            let told =
                format!("measured with the example of the template {}: content.data is missing", template.id);
            (Given::example(template), Some(told))
        } else if faults.is_empty() {
            (given, None)
        } else {
            return Err(faults);
        };
        let rendering = template.render(&given, locale, zone)?;
        Ok(Self { note, ..Self::rendered(rendering, content) })
    }

    fn rendered(rendering: Rendering, content: &Content) -> Self {
        let own = content.profile();
        let measure = |form: &Rendered| ContentProfile {
            characters: count(&form.body),
            segments: segments::segments(&form.body).1,
            has_html: form.html.is_some(),
            ..own
        };
        let none = ContentProfile { characters: 0, segments: 0, has_html: false, ..own };
        let channels = PerChannel::from_fn(|c| rendering.forms[c].as_ref().map_or(none, measure));
        let first = Channel::ALL.into_iter().find(|c| rendering.forms[*c].is_some());
        let shown = first.map_or(none, |channel| channels[channel]);
        // Html is what only some channels can show; a form of its own for SMS leaves nothing unshown.
        let message = ContentProfile { has_html: shown.has_html && first != Some(Channel::Sms), ..shown };
        Self { message, channels, rendering: Some(rendering), note: None }
    }
}

fn has_words(content: &Content) -> bool {
    !content.body.trim().is_empty() || content.html.is_some()
}

fn count(text: &str) -> u32 {
    u32::try_from(text.chars().count()).unwrap_or(u32::MAX)
}

impl Template {
    /// Every form of one language.
    fn render(&self, given: &Given, locale: &str, zone: chrono_tz::Tz) -> Result<Rendering, Vec<DataFault>> {
        let absent = self.optional.iter().map(String::as_str);
        let values = language::values(given.values(self), absent, zone);
        let mut faults = Vec::new();
        let mut forms = PerChannel::default();
        for (channel, form) in self.locales.get(locale).into_iter().flat_map(PerChannel::iter) {
            let Some(form) = form else { continue };
            match self.form(form, locale, channel, &values) {
                Ok(rendered) => forms[channel] = Some(rendered),
                Err(fault) => faults.push(fault),
            }
        }
        if faults.is_empty() {
            return Ok(Rendering { template: self.id.clone(), locale: locale.to_owned(), forms });
        }
        Err(faults)
    }

    fn form(
        &self,
        form: &Form,
        locale: &str,
        channel: Channel,
        values: &minijinja::value::Value,
    ) -> Result<Rendered, DataFault> {
        let text = |what: &str| {
            let name = part(locale, channel, what);
            let rendered = self.engine.render(&name, values).map_err(|failure| DataFault {
                pointer: "/content/data".to_owned(),
                detail: format!("the template {} ({name}): {}", self.id, failure.words),
                hint: failure.hint.map(str::to_owned),
            })?;
            let rendered = shape(&name, &rendered).into_owned();
            if rendered.is_empty() {
                let detail = format!("the template {} ({name}) comes out empty", self.id);
                return Err(DataFault { pointer: "/content/data".to_owned(), detail, hint: None });
            }
            Ok(rendered)
        };
        let approved = match &form.approved {
            None => None,
            Some(approved) => {
                let parameters = (0..approved.parameters)
                    .map(|at| text(&format!("approved.{at}")))
                    .collect::<Result<Vec<_>, _>>()?;
                let (name, language) = (approved.name.clone(), approved.language.clone());
                Some(ApprovedTemplate { name, language, parameters })
            }
        };
        Ok(Rendered {
            subject: form.subject.then(|| text("subject")).transpose()?,
            body: text("text")?,
            html: form.html.then(|| text("html")).transpose()?,
            approved_template: approved,
        })
    }
}

/// A text as it is sent: a subject and a parameter on one line, everything without spaces around it.
pub fn shape<'t>(name: &str, text: &'t str) -> Cow<'t, str> {
    if name.ends_with(".subject") || name.contains(".approved.") {
        return one_line(text).into();
    }
    text.trim().into()
}

/// Without line breaks, tabs and runs of spaces (reliability.md T9): a subject is a header, and a provider
/// refuses parameters with them.
pub fn one_line(text: &str) -> String {
    text.split(|c: char| c.is_control() || c == ' ')
        .filter(|part| !part.is_empty())
        .collect::<Vec<_>>()
        .join(" ")
}

impl From<Unknown> for DataFault {
    fn from(unknown: Unknown) -> Self {
        let hint = match unknown.near {
            Some(near) => format!("did you mean {near:?}?"),
            None => "templates are the files templates/<ID>.toml of the policies folder".to_owned(),
        };
        let detail = format!("there is no template {:?}", unknown.id);
        Self { pointer: "/content/templateId".to_owned(), detail, hint: Some(hint) }
    }
}
