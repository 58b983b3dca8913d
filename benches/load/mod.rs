//! Load for the benches over the Unix socket: one thread, one poll, many connections, no allocation for a request; and
//! the processes that bear it, with the time that they took of a processor.

use std::{
    fs,
    io::{self, Read, Write},
    path::Path,
    process::Command,
    time::{Duration, Instant},
};

use mio::{Events, Interest, Poll, Token, net::UnixStream};

/// How long each measurement takes, and how often it is made.
#[derive(Clone, Copy)]
pub struct Rounds {
    pub each: Duration,
    pub count: usize,
}

impl Rounds {
    /// As the command line asks: `--quick` is good for seeing that it works.
    pub fn asked() -> Self {
        match std::env::args().any(|argument| argument == "--quick") {
            true => Self { each: Duration::from_millis(300), count: 1 },
            false => Self { each: Duration::from_secs(2), count: 5 },
        }
    }
}

/// What one round saw.
pub struct Round {
    /// Requests a second.
    pub rate: f64,
    /// Microseconds that the server took of a processor for each request.
    pub cpu: f64,
    pub micros: Vec<f64>,
}

/// The middle of each figure over all rounds, and of the waits the middle and the 99th of a hundred.
pub struct Summary {
    pub rate: f64,
    pub cpu: f64,
    pub p50: f64,
    pub p99: f64,
}

impl Summary {
    pub fn of(rounds: &[Round]) -> Self {
        let mut micros: Vec<f64> = rounds.iter().flat_map(|round| round.micros.iter().copied()).collect();
        micros.sort_by(f64::total_cmp);
        Self {
            rate: median(rounds.iter().map(|round| round.rate)),
            cpu: median(rounds.iter().map(|round| round.cpu)),
            p50: micros[micros.len() / 2],
            p99: micros[micros.len() * 99 / 100],
        }
    }
}

pub fn median(values: impl Iterator<Item = f64>) -> f64 {
    let mut values: Vec<f64> = values.collect();
    values.sort_by(f64::total_cmp);
    values[values.len() / 2]
}

/// Seconds of a processor that a process has taken, all its threads together.
pub fn cpu_seconds(pid: u32) -> f64 {
    let mut nanoseconds = 0.0;
    for task in fs::read_dir(format!("/proc/{pid}/task")).expect("it runs").flatten() {
        // A thread may end meanwhile.
        let text = fs::read_to_string(task.path().join("schedstat")).unwrap_or_default();
        nanoseconds += text.split(' ').next().and_then(|first| first.parse::<f64>().ok()).unwrap_or(0.0);
    }
    nanoseconds / 1e9
}

/// The words before a command that keep it on one core; none where there is one core only, or no `taskset`.
pub fn on_core(core: &'static str) -> Vec<&'static str> {
    let cores = std::thread::available_parallelism().map_or(1, usize::from);
    let can =
        || Command::new("taskset").args(["-c", core, "true"]).output().is_ok_and(|o| o.status.success());
    if cores > 1 && can() { vec!["taskset", "-c", core] } else { Vec::new() }
}

/// Keeps this process to a core, where that can be.
pub fn stay_on_core(core: &'static str) {
    if !on_core(core).is_empty() {
        let pid = std::process::id().to_string();
        let _ = Command::new("taskset").args(["-a", "-c", "-p", core, &pid]).output();
    }
}

struct Connection {
    stream: UnixStream,
    /// What came of an answer.
    answer: Vec<u8>,
    filled: usize,
    asked: Instant,
    /// What was not taken of the request yet.
    unsent: usize,
}

/// Keeps `connections` busy with the request, one at a time on each, for a while.
pub fn run(socket: &Path, pid: u32, request: &[u8], connections: usize, how_long: Duration) -> Round {
    let mut poll = Poll::new().expect("a poll");
    let mut all: Vec<Connection> = (0..connections)
        .map(|at| {
            let mut stream = UnixStream::connect(socket).expect("the server listens");
            let interest = Interest::READABLE | Interest::WRITABLE;
            poll.registry().register(&mut stream, Token(at), interest).expect("registered");
            let (answer, asked) = (vec![0; 64 << 10], Instant::now());
            Connection { stream, answer, filled: 0, asked, unsent: request.len() }
        })
        .collect();
    let (mut events, mut micros) = (Events::with_capacity(connections), Vec::with_capacity(1 << 20));
    let (cpu, started) = (cpu_seconds(pid), Instant::now());
    all.iter_mut().for_each(|connection| connection.send(request));
    while started.elapsed() < how_long {
        poll.poll(&mut events, Some(Duration::ZERO)).expect("polled");
        for event in &events {
            all[event.token().0].advance(request, &mut micros);
        }
    }
    let (took, cpu) = (started.elapsed().as_secs_f64(), cpu_seconds(pid) - cpu);
    assert!(!micros.is_empty(), "no answer came");
    Round { rate: micros.len() as f64 / took, cpu: cpu * 1e6 / micros.len() as f64, micros }
}

impl Connection {
    fn send(&mut self, request: &[u8]) {
        while self.unsent > 0 {
            match self.stream.write(&request[request.len() - self.unsent..]) {
                Ok(written) => self.unsent -= written,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server takes no request: {error}"),
            }
        }
    }

    /// Sends and reads as far as it goes; an answer that is whole is followed by the next request.
    fn advance(&mut self, request: &[u8], micros: &mut Vec<f64>) {
        self.send(request);
        loop {
            match self.stream.read(&mut self.answer[self.filled..]) {
                Ok(0) => {
                    panic!("the server closed: {}", String::from_utf8_lossy(&self.answer[..self.filled]))
                }
                Ok(read) => self.filled += read,
                Err(error) if error.kind() == io::ErrorKind::WouldBlock => return,
                Err(error) => panic!("the server does not answer: {error}"),
            }
            if length(&self.answer[..self.filled]) != Some(self.filled) {
                continue;
            }
            assert!(
                self.answer.starts_with(b"HTTP/1.1 200"),
                "{}",
                String::from_utf8_lossy(&self.answer[..self.filled])
            );
            micros.push(self.asked.elapsed().as_secs_f64() * 1e6);
            (self.filled, self.unsent, self.asked) = (0, request.len(), Instant::now());
            self.send(request);
        }
    }
}

/// How long an answer is, its head included; none before that is known.
fn length(answer: &[u8]) -> Option<usize> {
    const NAME: &[u8] = b"\r\ncontent-length: ";
    let end = answer.windows(4).position(|window| window == b"\r\n\r\n")?;
    let named = |window: &[u8]| window.eq_ignore_ascii_case(NAME);
    let at = answer[..end].windows(NAME.len()).position(named)? + NAME.len();
    let digits = answer[at..].iter().take_while(|byte| byte.is_ascii_digit());
    Some(end + 4 + digits.fold(0, |length, digit| length * 10 + usize::from(digit - b'0')))
}

/// A line for people and one for `benches/run`.
pub fn figure(name: &str, value: f64, unit: &str) {
    println!("figure: {name} {value:.3} {unit}");
}
