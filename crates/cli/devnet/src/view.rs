//! Showing a network that runs: the page, and the terminal.

use std::io::{IsTerminal as _, Write as _};
use std::net::{Ipv4Addr, SocketAddr};
use std::sync::Arc;
use std::time::Duration;

use base_service::signals;
use cli_dashboard::{Dashboard, DashboardError, Target, serve, text};
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

use crate::cli::{Look, absolute};
use crate::{DevnetError, State};

/// Pause between pictures in the terminal.
const PAUSE: Duration = Duration::from_secs(1);
/// Another screen, no line breaks where a line is too long; and back.
const ENTER: &str = "\x1b[?1049h\x1b[?7l\x1b[?25l";
const LEAVE: &str = "\x1b[?25h\x1b[?7h\x1b[?1049l";
/// To the first place; what is left of a line, or of the screen, goes.
const HOME: &str = "\x1b[H";
const END_OF_LINE: &str = "\x1b[K\r\n";
const END_OF_SCREEN: &str = "\x1b[J";

/// The nodes to ask.
fn dashboard(state: &State) -> Dashboard {
    let target = |(node, _): &(crate::Node, Option<u32>)| Target {
        name: node.name.clone(),
        mode: node.role.mode().to_owned(),
        socket: node.socket(),
        log: Some(node.log()),
    };
    Dashboard::new(state.nodes.iter().map(target).collect())
}

/// A page that is served until it is dropped.
pub(crate) struct Page {
    pub(crate) address: SocketAddr,
    /// Ends what serves it.
    _task: JoinSet<()>,
}

impl Page {
    /// Serves a page for a network, on another port if the wanted one is taken.
    pub(crate) async fn start(state: &State, port: u16, stop: &CancellationToken) -> Result<Self, DevnetError> {
        let dashboard = Arc::new(dashboard(state));
        let at = |port| SocketAddr::from((Ipv4Addr::LOCALHOST, port));
        let mut task = JoinSet::new();
        let address = match serve(at(port), Arc::clone(&dashboard), stop.clone()).await {
            Ok((address, served)) => {
                task.spawn(served);
                address
            }
            Err(DashboardError::Listen { .. }) if port != 0 => {
                let (address, served) = serve(at(0), dashboard, stop.clone()).await?;
                task.spawn(served);
                address
            }
            Err(error) => return Err(error.into()),
        };
        Ok(Self { address, _task: task })
    }
}

/// The terminal, as long as the network is shown on it.
pub(crate) struct Screen {
    dashboard: Dashboard,
    is_terminal: bool,
}

impl Screen {
    pub(crate) fn new(state: &State) -> Self {
        let is_terminal = std::io::stdout().is_terminal();
        if is_terminal {
            print!("{ENTER}");
        }
        Self { dashboard: dashboard(state), is_terminal }
    }

    /// Shows how everything stands.
    pub(crate) async fn draw(&mut self) {
        let text = text::render(&*self.dashboard.overview().await);
        if self.is_terminal {
            let text: Vec<_> = text.lines().collect();
            print!("{HOME}{}{END_OF_LINE}Ctrl-C ends this{END_OF_LINE}{END_OF_SCREEN}", text.join(END_OF_LINE));
        } else {
            println!("{text}");
        }
        // A terminal that is gone shows nothing.
        let _ = std::io::stdout().flush();
    }
}

impl Drop for Screen {
    fn drop(&mut self) {
        if self.is_terminal {
            print!("{LEAVE}");
            let _ = std::io::stdout().flush();
        }
    }
}

/// Shows a network that was started before.
pub(crate) async fn look(look: Look) -> Result<(), DevnetError> {
    let dir = absolute(&look.dir)?;
    let state = State::load(&dir)?.ok_or_else(|| DevnetError::Missing { dir: dir.clone() })?;
    if look.once {
        print!("{}", text::render(&*dashboard(&state).overview().await));
        return Ok(());
    }
    let stop = signals::stop_token().map_err(DevnetError::io("catch signals of", &dir))?;
    if !look.tui {
        let page = Page::start(&state, look.port, &stop).await?;
        println!("the network can be watched at http://{}/; press Ctrl-C to stop watching", page.address);
        stop.cancelled().await;
        return Ok(());
    }
    let mut screen = Screen::new(&state);
    loop {
        screen.draw().await;
        tokio::select! {
            () = stop.cancelled() => return Ok(()),
            () = tokio::time::sleep(PAUSE) => {}
        }
    }
}
