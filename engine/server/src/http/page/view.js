
// What is on the screen.

/** How often the gauges are read, in milliseconds: while a reply comes, and otherwise. */
const LIVE = 1000;
const IDLE = 10000;

const $ = (id) => document.getElementById(id);
const log = $("log");
const text = $("text");

let chat = null;
let others = [];

function element(tag, className, content) {
  const made = document.createElement(tag);
  if (className) made.className = className;
  if (content !== undefined) made.textContent = content;
  return made;
}

const WHO = { user: "You", assistant: "Model", history: "Session" };

/** Brings the conversation up to date: only what is new or has changed is touched. */
function show() {
  const atEnd = log.scrollHeight - log.scrollTop - log.clientHeight < 40;
  if (log.chat !== chat) {
    log.replaceChildren();
    log.chat = chat;
  }
  // What is further up does not change any more.
  const from = Math.max(0, log.children.length - 2);
  log.querySelector(".hint")?.remove();
  while (log.children.length > chat.turns.length) log.lastChild.remove();
  chat.turns.slice(Math.min(from, chat.turns.length)).forEach((turn, offset) => {
    let article = log.children[from + offset];
    if (!article || article.dataset.role !== turn.role) {
      const made = element("article", turn.role);
      made.dataset.role = turn.role;
      made.append(element("h2", "", WHO[turn.role]), element("div", "text"), element("p", "note"));
      if (article) article.replaceWith(made);
      else log.append(made);
      article = made;
    }
    const [, said, note] = article.children;
    if (said.textContent !== turn.text) said.textContent = turn.text;
    if (note.textContent !== (turn.note ?? "")) note.textContent = turn.note ?? "";
  });
  if (!chat.turns.length) log.append(element("p", "hint", "Say something. The server keeps the conversation, and its memory stays the same however long it gets."));
  if (atEnd) log.scrollTop = log.scrollHeight;
  const replying = Boolean(chat.abort);
  $("stop").hidden = !replying;
  $("send").hidden = replying;
  gauges();
}

function gauges() {
  const { info, samples } = chat;
  $("history").textContent = (info?.history_length ?? 0).toLocaleString();
  $("cached").textContent = (info?.cached_length ?? 0).toLocaleString();
  $("memory").textContent = ((info?.kv_live_bytes ?? 0) / 2 ** 20).toFixed(1);
  $("speed").textContent = chat.speed ? `${chat.speed.toFixed(1)} tokens/s` : "–";
  const line = (column) => {
    const most = Math.max(1, ...samples.map((sample) => sample[column]));
    const step = 240 / Math.max(1, samples.length - 1);
    // One series in the upper part and one in the lower would hide that both begin at nothing.
    return samples.map((sample, index) => `${(index * step).toFixed(1)},${(46 - (44 * sample[column]) / most).toFixed(1)}`).join(" ");
  };
  $("history-line").setAttribute("points", line(0));
  $("memory-line").setAttribute("points", line(1));
}

function list() {
  const entry = (name, facts, current, open, end) => {
    const item = element("li");
    const button = element("button", "open");
    button.type = "button";
    button.append(element("span", "name", name), element("span", "facts", facts));
    if (current) button.setAttribute("aria-current", "true");
    button.onclick = open;
    item.append(button);
    if (end) {
      const close = element("button", "end", "×");
      close.type = "button";
      close.setAttribute("aria-label", `End ${name}`);
      close.onclick = end;
      item.append(close);
    }
    return item;
  };
  const own = chats.filter((each) => each.id || each.turns.length).map((each) => {
    const facts = each.ended ? "ended" : each.info ? `${each.info.history_length.toLocaleString()} tokens` : "";
    return entry(each.name, facts, each === chat, () => open(each), () => attempt(() => end(each)));
  });
  const foreign = others
    .filter((session) => !chats.some((each) => each.id === session.id))
    .map((session) => {
      const facts = `${session.history_length.toLocaleString()} tokens, ${(session.kv_live_bytes / 2 ** 20).toFixed(1)} MiB`;
      const name = session.label || `session ${session.id.slice(5, 13)}`;
      return entry(name, facts, false, () => showForeign(session.id));
    });
  const focused = [...$("list").querySelectorAll("button")].indexOf(document.activeElement);
  $("list").replaceChildren(...own, ...foreign);
  if (focused >= 0) $("list").querySelectorAll("button")[focused]?.focus();
}

async function showForeign(id) {
  try {
    open(await adopt(id));
  } catch (error) {
    if (error.code !== "session_not_found") return tell(error, chat);
    notice("That session has ended meanwhile.");
    await refresh().catch(() => {});
  }
}

function open(next) {
  chat.draft = text.value;
  chat = next;
  text.value = chat.draft;
  notice();
  menu(false);
  show();
  list();
  if (chat.ended) gone(chat);
  attempt(async () => {
    await next.sync();
    await next.look();
    if (chat === next) show();
  }, next);
  text.focus();
}

async function end(which) {
  await which.close();
  if (which === chat) open(chats.at(-1) ?? begin());
  list();
}

function begin() {
  const unused = chats.find((each) => !each.turns.length);
  if (unused) return unused;
  const made = new Chat();
  chats.push(made);
  return made;
}

function menu(shown) {
  $("sessions").classList.toggle("shown", shown);
  $("menu").setAttribute("aria-expanded", String(shown));
}

/** Tells what went wrong, with what can be done about it; or takes that away. */
function notice(message = "", action = "", act = null) {
  const [said, button] = $("notice").children;
  $("notice").hidden = !message;
  said.textContent = message;
  button.textContent = action;
  button.onclick = act;
}

/** Says that a conversation's session has ended, where that is the one on the screen. */
function gone(which) {
  list();
  if (which !== chat || which.reviving) return;
  notice(
    "The server has ended this session: it was idle for too long, gave its place to another, or the server was started anew. What was said is still here.",
    "Go on in a new session",
    () => attempt(async () => {
      notice("The server reads the history again.");
      await which.revive();
      await which.look();
      if (which === chat) notice();
      show();
      list();
    }, which),
  );
}

function tell(error, which) {
  if (error.code === "invalid_api_key") return askForKey(key() ? "The server does not know the key that was given." : "");
  if (error.code === "session_not_found") return gone(which);
  if (which !== chat) return undefined;
  if (error.code === "unreachable") return notice(error.message, "Try again", () => attempt(start));
  if (error.code === "413" || error.code === "context_length_exceeded") return notice(`This message is too long. ${error.message}`);
  return notice(error.message);
}

/** Does something for a conversation; what goes wrong is told while that is on the screen. Answers whether it went well. */
async function attempt(work, which = chat) {
  try {
    await work();
    return true;
  } catch (error) {
    if (!(error instanceof Trouble)) console.error(error);
    tell(error, which);
    return false;
  }
}

function askForKey(why) {
  $("door-why").textContent = why;
  if (!$("door").open) $("door").showModal();
}

/** What is set; nothing where a field has what it cannot have, which is shown. */
function settings() {
  for (const field of $("settings").querySelectorAll("input")) {
    if (field.checkValidity()) continue;
    $("settings").open = true;
    field.reportValidity();
    return null;
  }
  const number = (id, fallback) => ($(id).value === "" ? fallback : Number($(id).value));
  const chosen = { max_tokens: number("max-tokens", 512), temperature: number("temperature", 0), top_p: number("top-p", 1) };
  const seed = number("seed", null);
  return seed === null ? chosen : { ...chosen, seed };
}

async function send() {
  const said = text.value.trim();
  if (!said || chat.abort || chat.reviving) return;
  if (chat.ended) return gone(chat);
  const chosen = settings();
  if (!chosen) return;
  const speaking = chat;
  if (!speaking.turns.length) speaking.system = $("system").value.trim();
  notice();
  text.value = "";
  let answered = false;
  await attempt(async () => {
    const watch = setInterval(() => document.hidden || speaking.look().then(() => chat === speaking && gauges(), () => {}), LIVE);
    try {
      answered = await speaking.say(said, chosen, () => chat === speaking && show());
    } finally {
      clearInterval(watch);
    }
  }, speaking);
  // What nothing has come of is there to be sent again.
  const again = (written) => (written ? `${said}\n${written}` : said);
  if (!answered && speaking === chat) text.value = again(text.value);
  else if (!answered) speaking.draft = again(speaking.draft);
  await speaking.look().catch(() => {});
  if (chat === speaking) show();
  await refresh().catch(() => {});
  if (document.activeElement === document.body) text.focus();
}

/** Looks at all sessions anew. */
async function refresh() {
  others = await server.list();
  const live = new Map(others.map((session) => [session.id, session]));
  for (const each of chats) {
    if (!each.id || each.abort || each.ended) continue;
    if (live.has(each.id)) each.info = live.get(each.id);
    // One that is not in the list may live elsewhere: only the server can say that it is gone.
    else await each.look().catch(() => {});
  }
  list();
  if (chat.ended) gone(chat);
}

async function start() {
  const model = await server.models();
  $("model").textContent = model.id;
  ends = new Set(model.eos_token_ids);
  notice();
  await refresh();
  const shown = chat;
  await shown.sync();
  await shown.look();
  show();
}

$("composer").onsubmit = (event) => {
  event.preventDefault();
  send();
};
text.onkeydown = (event) => {
  // Enter also ends what an input method composes.
  if (event.key === "Enter" && !event.shiftKey && !event.isComposing) {
    event.preventDefault();
    send();
  }
};
document.onkeydown = (event) => {
  if (event.key !== "Escape") return;
  if (chat.abort) chat.stop();
  else menu(false);
};
$("stop").onclick = () => {
  chat.stop();
  text.focus();
};
$("new").onclick = () => open(begin());
$("menu").onclick = () => menu($("menu").getAttribute("aria-expanded") !== "true");
$("door").querySelector("form").onsubmit = () => {
  sessionStorage.setItem(KEY, $("key").value.trim());
  $("key").value = "";
  attempt(start);
};
// A tab that sleeps asks for nothing, and looks at everything when it wakes.
document.onvisibilitychange = () => document.hidden || chat.abort || attempt(start);
setInterval(() => document.hidden || chat.abort || $("door").open || refresh().catch(() => {}), IDLE);

recall();
chat = chats.at(-1) ?? begin();
show();
list();
attempt(start);
text.focus();
