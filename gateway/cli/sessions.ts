/** `sallyport sessions`: finds recorded sessions. */
import { durationToMs } from "../config.ts";
import { type Command, exitCodes, gatewayOptions, storeOption, stringOption, UsageError } from "./command.ts";
import {
  type Recordings,
  type SessionFilter,
  type SessionPage,
  type SessionSummary,
  withRecordings,
} from "./recordings.ts";
import {
  type Cell,
  escapeControls,
  printJson,
  shortDuration,
  shortTime,
  type Terminal,
  table,
  verdictColour,
} from "./terminal.ts";

const verdicts = ["allow", "deny", "mask", "approve"];
const pageMax = 1_000;

export const sessionsCommand: Command = {
  name: "sessions",
  summary: "Finds recorded sessions, the latest first: yours, or everyone's where policy makes you an auditor.",
  synopsis: "[options]",
  options: {
    who: { type: "string", value: "text", help: "e-mail or subject" },
    target: { type: "string", value: "name", help: "a target's name" },
    verdict: { type: "string", value: "verdict", help: `with a command judged so: ${verdicts.join(", ")}` },
    text: { type: "string", value: "words", help: 'a statement has these words (or "a phrase", begin*)' },
    since: { type: "string", value: "time", help: "from then on: 2026-01-31, an RFC 3339 time, or 2h ago as 2h" },
    until: { type: "string", value: "time", help: "before then" },
    limit: { type: "string", value: "n", help: "at most so many (50)" },
    before: { type: "string", value: "cursor", help: "the page after another" },
    ...gatewayOptions,
    ...storeOption,
  },
  positionals: { min: 0, max: 0 },
  async run(invocation) {
    const { terminal, values } = invocation;
    const verdict = stringOption(invocation, "verdict");
    if (verdict !== undefined && !verdicts.includes(verdict))
      throw new UsageError(`--verdict is one of ${verdicts.join(", ")}`);
    const limit = Number(stringOption(invocation, "limit") ?? "50");
    if (!Number.isInteger(limit) || limit < 1 || limit > pageMax) throw new UsageError(`--limit is 1 to ${pageMax}`);
    const filter = {
      who: stringOption(invocation, "who"),
      target: stringOption(invocation, "target"),
      verdict,
      text: stringOption(invocation, "text"),
      since: parseTime("since", stringOption(invocation, "since"), Date.now()),
      until: parseTime("until", stringOption(invocation, "until"), Date.now()),
      before: stringOption(invocation, "before"),
      limit,
    };
    return await withRecordings(invocation, async (recordings) => {
      const page = await find(recordings, filter);
      if (values.json === true) printJson(terminal, page);
      else if (page.sessions.length === 0) terminal.err("No sessions.\n");
      else {
        terminal.out(sessionTable(terminal, page.sessions));
        if (page.next !== null) terminal.err(`More: --before ${escapeControls(page.next)}\n`);
      }
      return exitCodes.ok;
    });
  },
};

/** A search is answered in parts, each of which takes a bounded time. */
async function find(recordings: Recordings, filter: SessionFilter): Promise<SessionPage> {
  const sessions: SessionSummary[] = [];
  for (let { before } = filter; ; ) {
    const page = await recordings.list({ ...filter, before, limit: filter.limit - sessions.length });
    sessions.push(...page.sessions);
    if (filter.text === undefined || page.next === null || sessions.length === filter.limit) {
      return { sessions, next: page.next };
    }
    before = page.next;
  }
}

/** "2h" is two hours ago; anything else is a date or an RFC 3339 time. @returns RFC 3339. */
export function parseTime(name: string, text: string | undefined, nowMs: number): string | undefined {
  if (text === undefined) return undefined;
  const days = /^([0-9]{1,4})d$/.exec(text);
  if (days !== null) return new Date(nowMs - Number(days[1]) * 86_400_000).toISOString();
  if (/^[0-9]{1,6}(ms|s|m|h)$/.test(text)) return new Date(nowMs - durationToMs(text)).toISOString();
  const at = /^\d{4}-\d\d-\d\d(T[\d:.]+(Z|[+-]\d\d:\d\d))?$/.test(text) ? Date.parse(text) : Number.NaN;
  if (Number.isNaN(at)) throw new UsageError(`--${name} is a date, an RFC 3339 time, or an age such as 30m, 2h or 7d`);
  return new Date(at).toISOString();
}

function sessionTable(terminal: Terminal, sessions: readonly SessionSummary[]): string {
  const columns = [
    { title: "ID" },
    { title: "OPENED (UTC)" },
    { title: "LASTED", right: true },
    { title: "WHO", max: 36 },
    { title: "KIND" },
    { title: "TARGET", max: 24 },
    { title: "COMMANDS", right: true },
    { title: "ENDED" },
  ];
  return table(terminal, columns, sessions.map(sessionRow));
}

function sessionRow(session: SessionSummary): Cell[] {
  const { closedAt, closeReason } = session;
  const end = closedAt === null ? Date.now() : Date.parse(closedAt);
  const ended = closedAt === null ? "open" : (closeReason ?? "");
  const colour = verdictColour(ended);
  return [
    { text: session.id },
    { text: shortTime(session.openedAt) },
    { text: shortDuration(end - Date.parse(session.openedAt)) },
    { text: session.identity.email || session.identity.subject },
    { text: session.identity.kind },
    { text: session.target },
    { text: String(session.commands) },
    { text: ended, ...(colour !== undefined && { colour }) },
  ];
}
