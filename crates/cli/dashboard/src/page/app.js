// Asks for the overview and the log once a second while the page is seen, and shows them. Everything that comes from a
// node is put in as text, never as markup.
"use strict";

const byId = (id) => document.getElementById(id);
let overview = null;

// An element with a class, and texts or elements in it.
function make(tag, className, ...children) {
  const element = document.createElement(tag);
  if (className) element.className = className;
  element.append(...children);
  return element;
}

function replace(id, children) {
  byId(id).replaceChildren(...children);
}

const short = (text, length = 14) => (text.length > length ? text.slice(0, length) + "…" : text);
const clock = (time) => {
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? time : date.toLocaleTimeString();
};

function facts(pairs) {
  const list = make("dl", "");
  for (const [name, value] of pairs) {
    if (value === "" || value === undefined || value === null) continue;
    list.append(make("dt", "", name), make("dd", "", value instanceof Node ? value : String(value)));
  }
  return list;
}

function nodeCard(node) {
  const card = make("div", "card " + node.state,
    make("h3", "", node.name, make("span", "badge", node.state)),
    make("p", "why", node.why));
  card.append(facts([
    ["mode", node.mode],
    ["height", node.height || ""],
    ["peers", `${node.consensus_peers} consensus, ${node.p2p_peers} other`],
    ["registered", node.registered ? `${clock(node.registered)} as ${node.roles}` : ""],
    ["version", node.version],
    ...node.components.map((c) => ["component",
      `${c.name} ${c.version} ${c.state}, round ${c.round}${c.worker ? ", worker " + c.worker : ""}`]),
    ["id", node.id],
  ]));
  return card;
}

function validatorRow(validator) {
  const votes = make("span", "votes");
  validator.votes.forEach((vote, place) => {
    const mark = make("i", "vote " + vote);
    const block = overview.blocks[place];
    if (block) mark.title = `${vote} for block ${block.height - 1}`;
    votes.append(mark);
  });
  return make("div", "validator", make("b", "", validator.name || short(validator.address)),
    make("span", "power", `power ${validator.power}`), votes);
}

function paratimeCard(paratime) {
  const asleep = paratime.kind === "compute" && (paratime.suspended || paratime.committee.length === 0);
  const state = asleep ? "waiting" : "ready";
  const members = paratime.committee.map((m) => `${m.node} (${m.role})`).join(", ") || "none";
  const rounds = make("div", "");
  for (const round of paratime.rounds) {
    for (const [hash, size, result] of round.transactions) {
      rounds.append(make("div", "mono", `round ${round.round}: ${short(hash, 20)} ${size} B → ${result} B`));
    }
  }
  return make("div", "card " + state,
    make("h3", "", paratime.kind === "compute" ? "ParaTime" : "key manager",
      make("span", "badge", asleep ? (paratime.suspended ? "suspended" : "no committee") : "works")),
    facts([
      ["id", make("code", "", paratime.id)],
      ["version", paratime.version],
      ["round", paratime.kind === "compute" ? `${paratime.round}, ${paratime.block}, ${clock(paratime.time)}` : ""],
      ["state", paratime.state_root],
      [paratime.kind === "compute" ? "committee" : "nodes", members],
      ["secrets", paratime.secrets],
      ["key manager", paratime.key_manager],
      ["transactions", rounds.childElementCount ? rounds : ""],
    ]));
}

function blockRow(block) {
  return make("div", "", make("b", "", String(block.height)), make("span", "dim", clock(block.time)),
    make("span", "", `by ${block.proposer}`), make("span", "", `${block.transactions} tx, ${block.size} B`),
    make("span", "dim mono", short(block.hash, 24)));
}

function transactionRow(tx) {
  const row = make("div", "", make("b", "", tx.method), make("span", "", `block ${tx.height}`),
    make("span", "", `from ${tx.from}`),
    make("span", "dim", `nonce ${tx.nonce}, fee ${tx.fee}, gas ${tx.gas}, ${tx.size} B`),
    make("span", "dim mono", tx.hash));
  row.append(tx.error ? make("span", "failed", tx.error) : make("span", "dim", "ok"));
  return row;
}

function showTransactions() {
  const wanted = byId("tx-filter").value.toLowerCase();
  const found = overview.transactions.filter((tx) => JSON.stringify(tx).toLowerCase().includes(wanted));
  replace("transaction-list", found.length ? found.map(transactionRow) : [make("p", "hint", "none in the newest blocks")]);
}

function showNodesOfLogs() {
  const select = byId("log-node");
  const names = overview.nodes.filter((node) => node.has_log).map((node) => node.name);
  if (names.join() === Array.from(select.options, (option) => option.value).join()) return;
  const chosen = select.value;
  select.replaceChildren(...names.map((name) => make("option", "", name)));
  if (names.includes(chosen)) select.value = chosen;
}

function pace(blocks) {
  if (blocks.length < 2) return "–";
  const span = new Date(blocks[0].time) - new Date(blocks[blocks.length - 1].time);
  return (span / 1000 / (blocks.length - 1)).toFixed(2) + " s";
}

function show() {
  const ready = overview.nodes.filter((node) => node.state === "ready").length;
  const voting = overview.validators.filter((validator) => validator.votes[0] === "commit").length;
  byId("height").textContent = overview.height;
  byId("epoch").textContent = overview.epoch;
  byId("ready").textContent = `${ready}/${overview.nodes.length}`;
  byId("voting").textContent = `${voting}/${overview.validators.length}`;
  const paratimes = overview.paratimes.filter((paratime) => paratime.kind === "compute");
  byId("rounds").textContent = paratimes.map((paratime) => paratime.round).join(", ") || "–";
  byId("pace").textContent = pace(overview.blocks);
  byId("context").textContent = overview.chain_context;
  replace("node-list", overview.nodes.map(nodeCard));
  replace("validator-list", overview.validators.map(validatorRow));
  replace("paratime-list", overview.paratimes.length ? overview.paratimes.map(paratimeCard) : [make("p", "hint", "none registered")]);
  replace("block-list", overview.blocks.map(blockRow));
  showTransactions();
  showNodesOfLogs();
}

function stand(text, isBad) {
  byId("standing").textContent = text;
  byId("standing").className = isBad ? "bad" : "";
}

async function ask(path) {
  const answer = await fetch(path, { cache: "no-store", signal: AbortSignal.timeout(15000) });
  if (!answer.ok) throw new Error(`${path}: ${answer.status}`);
  return answer.json();
}

let lastLog = "";
async function showLog() {
  const query = new URLSearchParams({
    node: byId("log-node").value, level: byId("log-level").value, filter: byId("log-filter").value,
  });
  if (!query.get("node")) return;
  const { lines, error } = await ask("api/log?" + query);
  const text = error || lines.join("\n") || "no line passes the filter";
  if (text === lastLog) return;
  lastLog = text;
  const box = byId("log-lines");
  const atEnd = box.scrollHeight - box.scrollTop - box.clientHeight < 40;
  box.textContent = text;
  if (atEnd) box.scrollTop = box.scrollHeight;
}

async function turn() {
  if (!document.hidden) {
    try {
      overview = await ask("api/overview");
      show();
      stand(`as of ${new Date().toLocaleTimeString()}, every second`, false);
      await showLog();
    } catch (error) {
      stand(`no answer: ${error.message}; the network may have been stopped`, true);
    }
  }
  setTimeout(turn, 1000);
}

byId("tx-filter").addEventListener("input", () => overview && showTransactions());
for (const id of ["log-node", "log-level", "log-filter"]) {
  byId(id).addEventListener("input", () => showLog().catch((error) => stand(error.message, true)));
}
turn();
