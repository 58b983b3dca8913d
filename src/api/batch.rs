//! `POST /v1/decisions:batch`: a request on each line, an answer on each line, for as long as lines come.
//!
//! Read and answered as they come, in their order: what is held is the line that is being read and the answers that
//! the reader has not taken, so a reader that stops stops us too. A line's fault is that line's: it answers with a
//! problem and the next one is decided. Nothing is kept and nothing is sent.

use std::{
    convert::Infallible,
    future::poll_fn,
    pin::Pin,
    sync::Arc,
    task::{Context, Poll},
    time::Duration,
};

use axum::{
    body::Body,
    extract::{Request, State},
    http::{HeaderMap, HeaderValue, header},
    response::Response,
};
use bytes::Bytes;
use hyper::body::Frame;

use super::{
    Api,
    answers::DecisionAnswer,
    auth::Caller,
    body, decisions, frame,
    problem::{Kind, Problem, ProblemBody},
};
use crate::request::wire;

/// Answers that go out together, in bytes, about.
const OUT_BYTES: usize = 64 << 10;

/// Decide many requests, a line each, without keeping or sending anything.
#[utoipa::path(
    post, path = "/v1/decisions:batch", tag = "decisions", operation_id = "decide_batch",
    request_body(
        content = wire::Request, content_type = "application/x-ndjson",
        description = "On each line a request as `POST /v1/decisions` takes it, of at most 1 MiB; as many lines as there are. Blank lines are passed over",
    ),
    responses(
        (status = 200, description = "On each line the answer to one line, in order: the chosen channel and why, or a Problem with the number of its `line`. The answers begin while the requests still come: read them while you write", body = DecisionAnswer, content_type = "application/x-ndjson"),
        (status = 415, description = "Not `application/x-ndjson`", body = ProblemBody, content_type = "application/problem+json"),
    ),
)]
pub async fn decide(
    State(api): State<Arc<Api>>,
    caller: Caller,
    request: Request,
) -> Result<Response, Problem> {
    let (parts, body) = request.into_parts();
    answer(&api, caller, &parts.headers, body).await
}

/// The same, for whoever comes past the router.
pub async fn answer<B>(
    api: &Arc<Api>,
    caller: Caller,
    headers: &HeaderMap,
    body: B,
) -> Result<Response, Problem>
where
    B: hyper::body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    let body = body::check_lines(api, headers, body).await?;
    let batch =
        Batch { api: api.clone(), caller, body: Some(body), chunk: Bytes::new(), line: Line::default() };
    let mut response = Response::new(Body::new(Answers(batch.begin())));
    let lines = HeaderValue::from_static("application/x-ndjson; charset=utf-8");
    response.headers_mut().insert(header::CONTENT_TYPE, lines);
    Ok(response)
}

/// The answers to what came, and what goes on from there; none at the end.
type Step<B> = Pin<Box<dyn Future<Output = Option<(Bytes, Batch<B>)>> + Send>>;

/// The answers on their way out. Nothing is read before they are asked for.
struct Answers<B>(Option<Step<B>>);

impl<B> hyper::body::Body for Answers<B>
where
    B: hyper::body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    type Data = Bytes;
    type Error = Infallible;

    fn poll_frame(
        mut self: Pin<&mut Self>,
        cx: &mut Context<'_>,
    ) -> Poll<Option<Result<Frame<Bytes>, Infallible>>> {
        let Some(step) = &mut self.0 else { return Poll::Ready(None) };
        let Poll::Ready(step) = step.as_mut().poll(cx) else { return Poll::Pending };
        let (answers, next) = step.unzip();
        self.0 = next.and_then(Batch::begin);
        Poll::Ready(answers.map(|answers| Ok(Frame::data(answers))))
    }

    fn is_end_stream(&self) -> bool {
        self.0.is_none()
    }
}

/// One request of many lines.
struct Batch<B> {
    api: Arc<Api>,
    caller: Caller,
    /// None: nothing more is to come.
    body: Option<B>,
    /// What came and was not looked at yet.
    chunk: Bytes,
    line: Line,
}

/// The line that is being read.
#[derive(Default)]
struct Line {
    /// How many came before it.
    before: u64,
    /// What earlier chunks had of it.
    begun: Vec<u8>,
    /// Why the rest of it is passed over.
    refused: Option<Problem>,
    held: Option<body::Share>,
}

/// What came next of a body.
enum Came {
    Data(Bytes),
    End,
    Broken,
    /// Nothing, for too long.
    Late(Duration),
    Stopping,
}

impl<B> Batch<B>
where
    B: hyper::body::Body<Data = Bytes> + Unpin + Send + 'static,
{
    /// The next step, unless there is none.
    fn begin(self) -> Option<Step<B>> {
        (self.body.is_some() || !self.chunk.is_empty()).then(|| Box::pin(self.step()) as Step<B>)
    }

    /// Answers what has come; waits for more only where there is nothing to answer yet.
    async fn step(mut self) -> Option<(Bytes, Self)> {
        // A batch is one task among many: the others have their turn.
        tokio::task::yield_now().await;
        let mut out = Vec::new();
        loop {
            self.answer_chunk(&mut out).await;
            if !out.is_empty() || self.body.is_none() {
                return (!out.is_empty()).then(|| (out.into(), self));
            }
            match self.next().await {
                Came::Data(data) => self.chunk = data,
                Came::End => {
                    self.body = None;
                    self.finish_line(&[], &mut out).await;
                }
                Came::Broken => {
                    let detail = "the body ended before it was whole";
                    self.give_up(Problem::new(Kind::BadRequest, detail), &mut out);
                }
                Came::Late(within) => {
                    let detail = format!("no more of the body came within {} s", within.as_secs_f32());
                    self.give_up(Problem::new(Kind::Timeout, detail), &mut out);
                }
                Came::Stopping => {
                    let detail = "the daemon stops: this line and those after it were not decided";
                    self.give_up(Problem::new(Kind::Unavailable, detail), &mut out);
                }
            }
        }
    }

    async fn next(&mut self) -> Came {
        let (within, closing) = (self.api.settings.pace.body, &self.api.closing);
        let Some(body) = &mut self.body else { return Came::End };
        let mut frame = poll_fn(|cx| Pin::new(&mut *body).poll_frame(cx));
        let frame = async {
            loop {
                match (&mut frame).await {
                    None => return Came::End,
                    Some(Err(_)) => return Came::Broken,
                    // What is no data is trailers, which nobody reads.
                    Some(Ok(frame)) => match frame.into_data() {
                        Ok(data) => return Came::Data(data),
                        Err(_) => continue,
                    },
                }
            }
        };
        tokio::select! {
            biased;
            () = closing.cancelled() => Came::Stopping,
            came = tokio::time::timeout(within, frame) => came.unwrap_or(Came::Late(within)),
        }
    }

    /// Answers the lines of the chunk, as long as there is room for answers, and keeps the beginning of the last.
    async fn answer_chunk(&mut self, out: &mut Vec<u8>) {
        while !self.chunk.is_empty() && out.len() < OUT_BYTES {
            let Some(end) = memchr::memchr(b'\n', &self.chunk) else {
                let rest = std::mem::take(&mut self.chunk);
                return self.begin_line(&rest);
            };
            let rest = self.chunk.split_to(end + 1);
            self.finish_line(&rest[..end], out).await;
        }
    }

    /// Keeps what came of a line, within the limits of one request.
    fn begin_line(&mut self, part: &[u8]) {
        let (api, line) = (&self.api, &mut self.line);
        let (before, now) = (line.begun.len(), line.begun.len() + part.len());
        if line.refused.is_some() {
            return;
        }
        match fits(api, now).and_then(|()| api.held.extend(&mut line.held, before, now)) {
            Ok(()) => line.begun.extend_from_slice(part),
            Err(problem) => {
                (line.begun, line.held) = (Vec::new(), None);
                line.refused = Some(problem);
            }
        }
    }

    /// Answers a line with its last part, unless it is blank.
    async fn finish_line(&mut self, last: &[u8], out: &mut Vec<u8>) {
        let Line { before, mut begun, refused, held } = std::mem::take(&mut self.line);
        self.line.before = before + 1;
        let whole = if begun.is_empty() {
            last
        } else {
            begun.extend_from_slice(last);
            &begun
        };
        let from = out.len();
        let answered = match refused.map_or_else(|| fits(&self.api, whole.len()), Err) {
            Err(problem) => Err(problem),
            Ok(()) if whole.trim_ascii().is_empty() => return,
            Ok(()) => {
                let at_once = || decisions::decide_at_once(&self.api, &self.caller, whole, out);
                match frame::caught_at_once(at_once) {
                    Ok(Some(())) => Ok(()),
                    Ok(None) => {
                        let whole = decisions::decide_whole(&self.api, &self.caller, whole, out);
                        Box::pin(frame::caught(whole)).await.and_then(|answered| answered)
                    }
                    Err(problem) => Err(problem),
                }
            }
        };
        drop(held);
        match answered {
            Ok(()) => out.push(b'\n'),
            Err(problem) => {
                out.truncate(from);
                tell(problem, before + 1, out);
            }
        }
    }

    /// Says why nothing more is decided.
    fn give_up(&mut self, problem: Problem, out: &mut Vec<u8>) {
        self.body = None;
        tell(problem, self.line.before + 1, out);
    }
}

fn fits(api: &Api, length: usize) -> Result<(), Problem> {
    let most = api.settings.bodies.decision_bytes;
    if length <= most {
        return Ok(());
    }
    Err(Problem::new(Kind::TooLarge, format!("a line is at most {}", body::mebibytes(most))))
}

/// A line's problem, on a line.
fn tell(problem: Problem, line: u64, out: &mut Vec<u8>) {
    let told = problem.with(|p| {
        "/v1/decisions:batch".clone_into(&mut p.instance);
        p.line = Some(line);
    });
    // Writing to memory fails for no value of ours.
    let _ = serde_json::to_writer(&mut *out, told.body());
    out.push(b'\n');
}
