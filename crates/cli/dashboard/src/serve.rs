//! The page: static files that are part of this program, and what they ask for.

use std::net::{IpAddr, SocketAddr};
use std::sync::Arc;

use base_metrics::http::{self, Answer, Handler, Request};
use tokio::net::TcpListener;
use tokio_util::sync::CancellationToken;

use crate::collect::Dashboard;
use crate::logs::LogQuery;

const PAGE: &str = include_str!("page/index.html");
const SCRIPT: &str = include_str!("page/app.js");
const STYLE: &str = include_str!("page/style.css");

/// Nothing is loaded from elsewhere, nobody may put the page into a frame, and nothing is kept.
const HEAD: &str = "Content-Security-Policy: default-src 'none'; script-src 'self'; style-src 'self'; connect-src 'self'; \
                    base-uri 'none'; form-action 'none'; frame-ancestors 'none'\r\nX-Content-Type-Options: \
                    nosniff\r\nReferrer-Policy: no-referrer\r\nCache-Control: no-store\r\n";
const JSON: &str = "application/json";

/// Why there is no page.
#[derive(Debug, thiserror::Error)]
pub enum DashboardError {
    /// The address cannot be listened on.
    #[error("dashboard: cannot listen on {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// What the system says.
        source: std::io::Error,
    },
    /// Others could reach the address.
    #[error("dashboard: {0} is no loopback address, and the page asks for no password")]
    NotLoopback(IpAddr),
}

struct Pages {
    dashboard: Arc<Dashboard>,
}

/// Whether the client named an address of this machine: pages of other sites that have a name pointing here did not.
fn is_here(host: &str) -> bool {
    let name = match host.rsplit_once(':') {
        Some((name, port)) if port.bytes().all(|byte| byte.is_ascii_digit()) => name,
        _ => host,
    };
    let bare = name.trim_start_matches('[').trim_end_matches(']');
    name.eq_ignore_ascii_case("localhost") || bare.parse::<IpAddr>().is_ok_and(|ip| ip.is_loopback())
}

impl Handler for Pages {
    async fn answer(&self, request: Request) -> Answer {
        if !is_here(&request.host) {
            let body = b"this page is served to this machine only\n".to_vec();
            return Answer { status: "403 Forbidden", content_type: "text/plain; charset=utf-8", head: HEAD, body };
        }
        let answer = match request.path.as_str() {
            "/" => Answer::ok("text/html; charset=utf-8", PAGE),
            "/app.js" => Answer::ok("text/javascript; charset=utf-8", SCRIPT),
            "/style.css" => Answer::ok("text/css; charset=utf-8", STYLE),
            "/api/overview" => {
                let overview = self.dashboard.overview().await;
                Answer::ok(JSON, serde_json::to_vec(&*overview).unwrap_or_default())
            }
            "/api/log" => {
                let query = LogQuery {
                    node: request.text("node"),
                    filter: request.text("filter"),
                    level: request.text("level"),
                };
                let lines = match self.dashboard.log(query).await {
                    Ok(lines) => serde_json::json!({ "lines": lines }),
                    Err(error) => serde_json::json!({ "error": error }),
                };
                Answer::ok(JSON, lines.to_string())
            }
            _ => Answer::not_found(),
        };
        Answer { head: HEAD, ..answer }
    }
}

/// Takes a loopback address, and gives the page's server, which runs until it is stopped.
///
/// # Errors
/// See [`DashboardError`].
pub async fn serve(
    address: SocketAddr,
    dashboard: Arc<Dashboard>,
    stop: CancellationToken,
) -> Result<(SocketAddr, impl Future<Output = ()> + Send), DashboardError> {
    if !address.ip().is_loopback() {
        return Err(DashboardError::NotLoopback(address.ip()));
    }
    let listener = TcpListener::bind(address).await.map_err(|source| DashboardError::Listen { address, source })?;
    let bound = listener.local_addr().map_err(|source| DashboardError::Listen { address, source })?;
    Ok((bound, http::serve(listener, Pages { dashboard }, stop)))
}

#[cfg(test)]
mod tests {
    use super::is_here;

    #[test]
    fn only_addresses_of_this_machine_are_answered() {
        for host in ["localhost", "localhost:26680", "127.0.0.1:1", "127.0.0.2", "[::1]:80", "LocalHost:5"] {
            assert!(is_here(host), "{host}");
        }
        for host in
            ["", "evil.example", "evil.example:26680", "127.0.0.1.evil.example", "10.0.0.1:80", "localhost.evil"]
        {
            assert!(!is_here(host), "{host}");
        }
    }
}
