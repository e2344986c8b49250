//! The dashboard in a headless Chromium, driven by the WebDriver protocol.

use std::io::{BufRead as _, BufReader, Read as _, Write as _};
use std::net::TcpStream;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use crate::PATIENCE;

/// Where screenshots are kept if somebody wants to look at them.
const SCREENSHOTS: &str = "WADI_SCREENSHOTS";

struct Driver {
    child: Child,
    port: u16,
    session: String,
}

impl Driver {
    /// Starts the driver, and the browser with it; nothing if one of them is missing.
    fn start(profile: &Path) -> Option<Self> {
        let browser = ["chromium", "chromium-browser", "google-chrome"].into_iter().find(|name| runs(name))?;
        if !runs("chromedriver") {
            return None;
        }
        let mut child =
            Command::new("chromedriver").arg("--port=0").stdout(Stdio::piped()).stderr(Stdio::null()).spawn().ok()?;
        let mut out = BufReader::new(child.stdout.take()?);
        let mut port = None;
        let mut line = String::new();
        while port.is_none() && out.read_line(&mut line).is_ok_and(|read| read > 0) {
            port = line.trim().rsplit_once("on port ").and_then(|(_, port)| port.trim_end_matches('.').parse().ok());
            line.clear();
        }
        // It goes on to write.
        std::thread::spawn(move || std::io::copy(&mut out, &mut std::io::sink()));
        let mut driver = Self { child, port: port?, session: String::new() };
        let binary = which(browser)?;
        let capabilities = json!({ "capabilities": { "alwaysMatch": {
            "browserName": "chrome",
            "goog:loggingPrefs": { "browser": "ALL" },
            "goog:chromeOptions": {
                "binary": binary,
                "args": [
                    "--headless=new", "--no-sandbox", "--disable-gpu", "--disable-dev-shm-usage",
                    format!("--user-data-dir={}", profile.display()),
                ],
            },
        } } });
        let made = driver.call("POST", "/session", &capabilities);
        driver.session = made["sessionId"].as_str().unwrap_or_else(|| panic!("no session: {made}")).to_owned();
        Some(driver)
    }

    /// A command, and its value.
    fn call(&self, method: &str, path: &str, body: &Value) -> Value {
        let mut stream = TcpStream::connect(("127.0.0.1", self.port)).expect("the driver listens");
        stream.set_read_timeout(Some(PATIENCE)).expect("a time limit");
        let body = if method == "GET" { String::new() } else { body.to_string() };
        let head = format!(
            "{method} {path} HTTP/1.1\r\nHost: 127.0.0.1:{}\r\nContent-Type: application/json\r\nContent-Length: \
             {}\r\nConnection: close\r\n\r\n",
            self.port,
            body.len()
        );
        stream.write_all(format!("{head}{body}").as_bytes()).expect("sent");
        let mut reader = BufReader::new(stream);
        let mut length = 0;
        loop {
            let mut line = String::new();
            reader.read_line(&mut line).expect("a head");
            if line.trim().is_empty() {
                break;
            }
            if let Some((name, value)) = line.split_once(':')
                && name.eq_ignore_ascii_case("content-length")
            {
                length = value.trim().parse().expect("a number");
            }
        }
        let mut bytes = vec![0; length];
        reader.read_exact(&mut bytes).expect("a body");
        let mut answer: Value = serde_json::from_slice(&bytes).expect("JSON");
        assert!(answer["value"]["error"].is_null(), "{method} {path}: {answer}");
        answer["value"].take()
    }

    fn command(&self, name: &str, body: &Value) -> Value {
        self.call("POST", &format!("/session/{}/{name}", self.session), body)
    }

    /// What a script gives.
    fn script(&self, text: &str) -> Value {
        self.command("execute/sync", &json!({ "script": text, "args": [] }))
    }

    /// Waits until a script gives true.
    fn until(&self, script: &str) {
        let end = Instant::now() + PATIENCE;
        while self.script(script) != json!(true) {
            assert!(Instant::now() < end, "{script}: {}", self.script("return document.body.innerText"));
            std::thread::sleep(Duration::from_millis(300));
        }
    }

    /// Gives the page a size, and nothing around it.
    fn resize(&self, width: u32, height: u32) {
        let parameters = json!({ "width": width, "height": height, "deviceScaleFactor": 1, "mobile": width < 600 });
        let body = json!({ "cmd": "Emulation.setDeviceMetricsOverride", "params": parameters });
        self.command("goog/cdp/execute", &body);
    }

    /// A picture of the whole page, kept if somebody wants to look at it.
    fn screenshot(&self, name: &str) {
        let body = json!({ "cmd": "Page.captureScreenshot", "params": { "captureBeyondViewport": true } });
        let picture = self.command("goog/cdp/execute", &body);
        let text = picture["data"].as_str().expect("a picture");
        // In base64, a PNG begins so.
        assert!(text.starts_with("iVBORw0KGgo") && text.len() > 20_000, "{name}: {} characters", text.len());
        if let Some(dir) = std::env::var_os(SCREENSHOTS) {
            let path = PathBuf::from(dir).join(format!("{name}.png.base64"));
            std::fs::write(path, text).expect("written");
        }
    }
}

impl Drop for Driver {
    fn drop(&mut self) {
        if !self.session.is_empty() && !std::thread::panicking() {
            self.call("DELETE", &format!("/session/{}", self.session), &Value::Null);
        }
        let _ = self.child.kill();
        let _ = self.child.wait();
    }
}

fn runs(program: &str) -> bool {
    let tried = Command::new(program).arg("--version").stdout(Stdio::null()).stderr(Stdio::null()).status();
    tried.is_ok_and(|status| status.success())
}

fn which(program: &str) -> Option<PathBuf> {
    let path = std::env::var_os("PATH")?;
    std::env::split_paths(&path).map(|dir| dir.join(program)).find(|path| path.is_file())
}

/// Looks at the page as on a desk and as on a phone.
pub(crate) fn look(url: &str, dir: &Path) {
    let Some(driver) = Driver::start(&dir.with_file_name("browser")) else {
        println!(
            "skipped: 1 the dashboard in a browser, chromium or chromedriver is missing (apt-get install chromium chromium-driver)"
        );
        return;
    };
    driver.resize(1280, 900);
    driver.command("url", &json!({ "url": url }));
    driver.until("return Number(document.getElementById('height').textContent) > 0");
    driver.until("return document.querySelectorAll('#node-list .card.ready').length === 9");
    driver.until("return document.querySelectorAll('.vote.commit').length > 5");
    driver.until("return document.querySelectorAll('#paratime-list .card').length === 2");
    driver.until("return document.querySelectorAll('#transaction-list b').length > 0");
    driver.until("return document.getElementById('log-lines').textContent.length > 200");
    // It is live.
    let before = driver.script("return document.getElementById('height').textContent");
    driver.until(&format!("return document.getElementById('height').textContent !== {before}"));
    // Filters.
    let type_into = |id: &str, text: &str| {
        driver.script(&format!(
            "const e = document.getElementById('{id}'); e.value = '{text}'; e.dispatchEvent(new Event('input'))"
        ));
    };
    type_into("log-filter", "no such text anywhere");
    driver.until("return document.getElementById('log-lines').textContent === 'no line passes the filter'");
    type_into("log-filter", "");
    driver.until("return document.getElementById('log-lines').textContent.length > 200");
    type_into("tx-filter", "staking.transfer");
    driver.until(
        "return Array.from(document.querySelectorAll('#transaction-list b')).every((b) => b.textContent === 'staking.Transfer')",
    );
    type_into("tx-filter", "");
    driver.screenshot("desk");
    driver.resize(390, 844);
    driver.until("return window.innerWidth === 390");
    let overflow = driver.script("return document.documentElement.scrollWidth - window.innerWidth");
    assert!(overflow.as_i64().is_some_and(|pixels| pixels <= 0), "the page is wider than a phone by {overflow}");
    driver.screenshot("phone");
    // Nothing was refused or asked for elsewhere.
    let log = driver.command("se/log", &json!({ "type": "browser" }));
    let wrong: Vec<_> = log.as_array().into_iter().flatten().filter(|entry| entry["level"] == "SEVERE").collect();
    assert!(wrong.is_empty(), "{wrong:?}");
    let elsewhere = driver.script(
        "return performance.getEntriesByType('resource').map((e) => e.name).filter((n) => !n.startsWith(location.origin))",
    );
    assert_eq!(elsewhere, json!([]));
}
