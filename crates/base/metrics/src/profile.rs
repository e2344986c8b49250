//! Profiles of the running program over HTTP, at the paths of Go's `net/http/pprof`.
//!
//! What Go gives from its runtime has no counterpart here; each path gives the nearest thing as text: processor time by
//! thread, threads with what they wait for, memory by kind.

use std::collections::BTreeMap;
use std::time::Duration;

use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::http::{self, Answer, Handler, Request};

/// Longest measurement.
const MAX_SECONDS: u64 = 60;
/// Measurement without a length, as Go has it.
const DEFAULT_SECONDS: u64 = 30;
/// Clock ticks per second of `/proc`.
const TICKS: u64 = 100;

const TEXT: &str = "text/plain; charset=utf-8";
const PREFIX: &str = "/debug/pprof/";
const INDEX: [(&str, &str); 5] = [
    ("cmdline", "the command line"),
    ("goroutine", "threads of the program, their state and what they wait for; tasks by number"),
    ("threadcreate", "the same"),
    ("heap", "memory of the program by kind"),
    ("profile", "processor time by thread, measured for ?seconds=N (30)"),
];

/// Answers requests for profiles.
#[derive(Debug)]
pub struct Server {
    listener: TcpListener,
}

/// The address can't be listened on.
#[derive(Debug, thiserror::Error)]
#[error("pprof: cannot listen on {address}: {source}")]
pub struct BindError {
    /// The address.
    pub address: String,
    /// What the system says.
    pub source: std::io::Error,
}

impl Server {
    /// Takes the address.
    ///
    /// # Errors
    /// If it can't be listened on.
    pub async fn bind(address: &str) -> Result<Self, BindError> {
        let listener = TcpListener::bind(address).await;
        listener.map(|listener| Self { listener }).map_err(|source| BindError { address: address.to_owned(), source })
    }

    /// Where it listens.
    pub fn address(&self) -> Option<std::net::SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// Runs until stopped.
    pub async fn run(self, stop: CancellationToken) {
        http::serve(self.listener, Profiles, stop).await;
    }
}

struct Profiles;

impl Handler for Profiles {
    async fn answer(&self, request: Request) -> Answer {
        let Some(name) = request.path.strip_prefix(PREFIX) else { return Answer::not_found() };
        match name {
            "" => Answer::ok("text/html; charset=utf-8", index()),
            "cmdline" => Answer::ok(TEXT, std::fs::read("/proc/self/cmdline").unwrap_or_default()),
            "goroutine" | "threadcreate" => Answer::ok(TEXT, threads()),
            "heap" | "allocs" => Answer::ok(TEXT, memory()),
            "profile" => {
                let seconds = request.number("seconds").unwrap_or(DEFAULT_SECONDS).clamp(1, MAX_SECONDS);
                Answer::ok(TEXT, processor(seconds).await)
            }
            _ => Answer::not_found(),
        }
    }
}

fn index() -> String {
    let mut page = String::from("<html><head><title>/debug/pprof/</title></head><body><p>Profiles:</p><ul>\n");
    for (name, what) in INDEX {
        page.push_str(&format!("<li><a href=\"{name}\">{name}</a>: {what}</li>\n"));
    }
    page.push_str("</ul></body></html>\n");
    page
}

/// A thread as `/proc` shows it.
struct Thread {
    id: u64,
    name: String,
    state: char,
    user: u64,
    system: u64,
}

fn all_threads() -> Vec<Thread> {
    let tasks = std::fs::read_dir("/proc/self/task").into_iter().flatten().flatten();
    let mut threads: Vec<Thread> = tasks
        .filter_map(|entry| {
            let id = entry.file_name().to_str()?.parse().ok()?;
            parse_thread(id, &std::fs::read_to_string(entry.path().join("stat")).ok()?)
        })
        .collect();
    threads.sort_by_key(|thread| thread.id);
    threads
}

fn parse_thread(id: u64, stat: &str) -> Option<Thread> {
    let (before, rest) = stat.rsplit_once(')')?;
    let name = before.split_once('(')?.1.to_owned();
    let fields: Vec<&str> = rest.split_whitespace().collect();
    let number = |at: usize| fields.get(at).and_then(|field| field.parse().ok()).unwrap_or_default();
    Some(Thread { id, name, state: fields.first()?.chars().next()?, user: number(11), system: number(12) })
}

fn threads() -> String {
    let metrics = tokio::runtime::Handle::current().metrics();
    let mut out = format!(
        "tasks: {} alive, {} in the global queue, {} worker threads\n\n",
        metrics.num_alive_tasks(),
        metrics.global_queue_depth(),
        metrics.num_workers()
    );
    let all = all_threads();
    out.push_str(&format!(
        "threads: {}\n{:>8} {:<16} {:<6} {:>9} {:>9}  waits for\n",
        all.len(),
        "id",
        "name",
        "state",
        "user s",
        "system s"
    ));
    for thread in all {
        let waits = std::fs::read_to_string(format!("/proc/self/task/{}/wchan", thread.id)).unwrap_or_default();
        let waits = if waits == "0" { String::new() } else { waits };
        let seconds = |ticks: u64| ticks as f64 / TICKS as f64;
        out.push_str(&format!(
            "{:>8} {:<16} {:<6} {:>9.2} {:>9.2}  {waits}\n",
            thread.id,
            thread.name,
            thread.state,
            seconds(thread.user),
            seconds(thread.system)
        ));
    }
    out
}

fn memory() -> String {
    let read = |file: &str| std::fs::read_to_string(file).unwrap_or_default();
    let status = read("/proc/self/status");
    let kept = status.lines().filter(|line| line.starts_with("Vm") || line.starts_with("Rss"));
    let mut out: String = kept.map(|line| format!("{line}\n")).collect();
    out.push('\n');
    out.push_str(&read("/proc/self/smaps_rollup"));
    out
}

async fn processor(seconds: u64) -> String {
    let sum = |threads: Vec<Thread>| -> BTreeMap<u64, (String, u64, u64)> {
        threads.into_iter().map(|thread| (thread.id, (thread.name, thread.user, thread.system))).collect()
    };
    let before = sum(all_threads());
    tokio::time::sleep(Duration::from_secs(seconds)).await;
    let mut used: Vec<(u64, u64, String, u64)> = Vec::new();
    for (id, (name, user, system)) in sum(all_threads()) {
        let (old_user, old_system) = before.get(&id).map_or((0, 0), |(_, user, system)| (*user, *system));
        used.push((user.saturating_sub(old_user), system.saturating_sub(old_system), name, id));
    }
    used.sort_by_key(|(user, system, ..)| std::cmp::Reverse(user + system));
    let all: u64 = used.iter().map(|(user, system, ..)| user + system).sum();
    let share = |ticks: u64, of: u64| 100.0 * ticks as f64 / of.max(1) as f64;
    let mut out = format!(
        "processor time of {seconds} s: {:.1} % of one processor\n{:>8} {:<16} {:>8} {:>8} {:>7}\n",
        share(all, seconds * TICKS),
        "id",
        "name",
        "user ms",
        "sys ms",
        "share"
    );
    for (user, system, name, id) in used.into_iter().filter(|(user, system, ..)| user + system > 0) {
        let ms = |ticks: u64| ticks * 1000 / TICKS;
        out.push_str(&format!(
            "{id:>8} {name:<16} {:>8} {:>8} {:>6.1}%\n",
            ms(user),
            ms(system),
            share(user + system, all)
        ));
    }
    out
}

#[cfg(test)]
mod tests {
    use super::*;

    async fn ask(path: &str) -> Answer {
        let (path, query) = path.split_once('?').unwrap_or((path, ""));
        Profiles.answer(Request { path: path.to_owned(), query: query.to_owned(), host: String::new() }).await
    }

    #[tokio::test]
    async fn answers_profiles() {
        let text = |answer: Answer| String::from_utf8(answer.body).unwrap();
        assert_eq!(ask("/").await.status, "404 Not Found");
        assert_eq!(ask("/debug/pprof/none").await.status, "404 Not Found");
        let page = text(ask("/debug/pprof/").await);
        for (name, _) in INDEX {
            assert!(page.contains(&format!("href=\"{name}\"")), "{page}");
        }
        assert!(text(ask("/debug/pprof/cmdline").await).contains("base_metrics"));
        assert!(text(ask("/debug/pprof/goroutine").await).contains("threads: "));
        assert!(text(ask("/debug/pprof/heap").await).contains("VmRSS"));
        let busy = std::thread::spawn(|| {
            let until = std::time::Instant::now() + Duration::from_millis(1500);
            while std::time::Instant::now() < until {
                std::hint::spin_loop();
            }
        });
        let profile = text(ask("/debug/pprof/profile?seconds=1").await);
        busy.join().unwrap();
        assert!(profile.starts_with("processor time of 1 s: ") && profile.lines().count() > 2, "{profile}");
    }

    #[tokio::test]
    async fn listens() {
        let server = Server::bind("127.0.0.1:0").await.unwrap();
        assert!(server.address().is_some());
        let stop = CancellationToken::new();
        stop.cancel();
        server.run(stop).await;
        assert!(Server::bind("nowhere").await.expect_err("no address").to_string().contains("pprof: cannot listen"));
    }
}
