/** `sallyport replay`: a recorded session as a transcript, in the time it took where a speed is given. */
import { z } from "zod";
import {
  type Command,
  exitCodes,
  gatewayOptions,
  requirePositional,
  storeOption,
  stringOption,
  UsageError,
} from "./command.ts";
import { withRecordings } from "./recordings.ts";
import {
  type Colour,
  escapeControls,
  escapedLines,
  jsonText,
  paint,
  type Terminal,
  table,
  verdictColour,
} from "./terminal.ts";

/** A pause is never longer than this: nobody waits through a lunch break. */
const pauseMsMax = 3_000;
const rule = z.looseObject({ id: z.string(), message: z.string() });
const eventSchema = z.looseObject({ type: z.string(), at: z.number().optional() });
const openedSchema = z.looseObject({
  session: z.string(),
  identity: z.looseObject({ subject: z.string(), email: z.string(), kind: z.string() }),
  target: z.looseObject({ name: z.string() }),
  context: z.record(z.string(), z.string()).default({}),
});
const contextSchema = z.looseObject({ context: z.record(z.string(), z.string()) });
const intentSchema = z.looseObject({
  text: z.string(),
  standsFor: z.array(z.string()).default([]),
  params: z.array(z.string().nullable()).default([]),
  verdict: z.string(),
  rules: z.array(rule),
  forwarded: z.boolean().default(false),
});
const rowsSchema = z.looseObject({
  columns: z.array(z.looseObject({ name: z.string(), mask: z.string().optional() })).optional(),
  rows: z.array(z.array(z.string().nullable())),
});
const approvalSchema = z.looseObject({
  approval: z.looseObject({
    id: z.string(),
    state: z.string(),
    by: z.array(z.looseObject({ subject: z.string(), email: z.string(), reason: z.string().optional() })),
  }),
});
const copySchema = z.looseObject({ direction: z.string(), data: z.string() });
/** Of an error or a notice, by the protocol's letters. */
const fields = z.record(z.string(), z.string());
const noticeSchema = z.looseObject({ fields });
const resultSchema = z.looseObject({
  tag: z.string(),
  rows: z.number().default(0),
  unrecorded: z.looseObject({ rows: z.number(), bytes: z.number() }).optional(),
  error: fields.optional(),
});
const outcomeSchema = z.looseObject({ refused: rule.optional() });
const closedSchema = z.looseObject({ reason: z.string() });

export const replayCommand: Command = {
  name: "replay",
  summary: "Replays a recording as a transcript; --speed 1 takes the time it took, 10 a tenth of it.",
  synopsis: "<id> [options]",
  options: {
    speed: { type: "string", value: "n", help: "pace; at once when not given" },
    ...gatewayOptions,
    ...storeOption,
  },
  positionals: { min: 1, max: 1 },
  async run(invocation) {
    const { terminal, values, signal } = invocation;
    const id = requirePositional(invocation, 0);
    const speed = Number(stringOption(invocation, "speed") ?? "0");
    if (!Number.isFinite(speed) || speed < 0) throw new UsageError("--speed is a number such as 1 or 10");
    return await withRecordings(invocation, async (recordings) => {
      const events: unknown[] = [];
      let previousAt: number | undefined;
      for await (const line of recordings.lines(id)) {
        signal.throwIfAborted();
        const event = eventSchema.parse(recordedEvent(JSON.parse(line)));
        if (values.json === true) events.push(event);
        else {
          if (speed > 0 && event.at !== undefined && previousAt !== undefined)
            await pause(Math.min(pauseMsMax, (event.at - previousAt) / speed), signal);
          terminal.out(renderEvent(terminal, event));
        }
        previousAt = event.at ?? previousAt;
      }
      if (values.json === true) terminal.out(`${jsonText(events)}\n`);
      return exitCodes.ok;
    });
  },
};

/** A line is an event, or an event beside its number and hash in the chain. */
function recordedEvent(line: unknown): unknown {
  return typeof line === "object" && line !== null && "event" in line ? line.event : line;
}

function pause(ms: number, signal: AbortSignal): Promise<void> {
  return new Promise((resolve) => {
    const end = () => {
      clearTimeout(timer);
      signal.removeEventListener("abort", end);
      resolve();
    };
    const timer = setTimeout(end, Math.max(0, ms));
    signal.addEventListener("abort", end, { once: true });
  });
}

const linesOf = (text: string) => escapedLines(text, "  ");

/** What a reader of the transcript sees of one event; "" for those that are not for people. */
export function renderEvent(terminal: Terminal, event: z.infer<typeof eventSchema>): string {
  switch (event.type) {
    case "session.opened": {
      const { session, identity, target, context } = openedSchema.parse(event);
      const who = escapeControls(identity.email || identity.subject);
      return `${paint(terminal, "bold", `${who} (${escapeControls(identity.kind)}) on ${escapeControls(target.name)}`)}  ${paint(terminal, "dim", `session ${escapeControls(session)}, ${clock(event.at)}`)}\n${contextLines(terminal, context)}`;
    }
    case "session.context":
      return contextLines(terminal, contextSchema.parse(event).context);
    case "intent": {
      const { text, standsFor, params, verdict, rules, forwarded } = intentSchema.parse(event);
      const why = rules.map((one) => ruleLine(terminal, one)).join("");
      const bodies = standsFor.map((one) => `  ${paint(terminal, "dim", "which is")} ${linesOf(one)}\n`).join("");
      const values = params.map((value, at) => parameterLine(terminal, at + 1, value)).join("");
      const judged = verdict === "approve" && forwarded ? "approved" : verdict;
      const word = paint(terminal, verdictColour(judged), `[${escapeControls(judged)}]`);
      return `\n${paint(terminal, "dim", clock(event.at))} ${paint(terminal, "cyan", ">")} ${linesOf(text)}  ${word}\n${bodies}${values}${why}`;
    }
    case "approval": {
      const { id, state, by } = approvalSchema.parse(event).approval;
      const people = by
        .map(({ subject, email, reason }) => `${email || subject}${reason === undefined ? "" : `: ${reason}`}`)
        .join(", ");
      return `  ${escapeControls(id)} ${paint(terminal, verdictColour(state), escapeControls(state))}${people === "" ? "" : ` by ${escapeControls(people)}`}\n`;
    }
    case "rows":
      return renderRows(terminal, rowsSchema.parse(event));
    case "copy": {
      const { direction, data } = copySchema.parse(event);
      const title = paint(terminal, "dim", direction === "in" ? "data from the caller" : "data to the caller");
      return `  ${title}\n  ${linesOf(data.replace(/\n$/, ""))}\n`;
    }
    case "notice":
      return diagnostic(terminal, noticeSchema.parse(event).fields, "yellow");
    case "result": {
      const { tag, rows, unrecorded, error } = resultSchema.parse(event);
      const rest = unrecorded === undefined ? "" : restLine(terminal, unrecorded, rows > 0);
      return rest + (error === undefined ? `${escapeControls(tag)}\n` : diagnostic(terminal, error, "red"));
    }
    case "outcome": {
      // Of what policy had permitted, or people approved.
      const { refused } = outcomeSchema.parse(event);
      return refused ? `  ${paint(terminal, verdictColour("denied"), "[denied]")}\n${ruleLine(terminal, refused)}` : "";
    }
    case "session.closed":
      return `\n${paint(terminal, "dim", `closed: ${escapeControls(closedSchema.parse(event).reason)}, ${clock(event.at)}`)}\n`;
    default:
      return "";
  }
}

function ruleLine(terminal: Terminal, { id, message }: z.infer<typeof rule>): string {
  return `  ${paint(terminal, "dim", escapeControls(`${id}: ${message}`))}\n`;
}

function contextLines(terminal: Terminal, context: Readonly<Record<string, string>>): string {
  const given = Object.entries(context).filter(([, value]) => value !== "");
  return given
    .map(([name, value]) => `  ${paint(terminal, "dim", `${escapeControls(name)}:`)} ${escapeControls(value)}\n`)
    .join("");
}

function parameterLine(terminal: Terminal, number: number, value: string | null): string {
  return `  ${paint(terminal, "dim", `$${number} =`)} ${value === null ? "NULL" : `'${linesOf(value)}'`}\n`;
}

function diagnostic(terminal: Terminal, { S, M, D, H }: z.infer<typeof fields>, colour: Colour): string {
  const title = paint(terminal, colour, `${escapeControls(S ?? "ERROR")}:`);
  const more = [
    ...(D === undefined ? [] : [`DETAIL:  ${linesOf(D)}\n`]),
    ...(H === undefined ? [] : [`HINT:  ${linesOf(H)}\n`]),
  ];
  return `${title}  ${linesOf(M ?? "")}\n${more.join("")}`;
}

/** What went by and is not among the rows above: a reader must not take them for all. */
function restLine(terminal: Terminal, { rows, bytes }: { rows: number; bytes: number }, ofRows: boolean): string {
  const [rowCount, byteCount] = [rows, bytes].map((count) => count.toLocaleString("en-US"));
  const what = ofRows ? `${rowCount} more rows (${byteCount} bytes)` : `${byteCount} more bytes`;
  return `  ${paint(terminal, "yellow", `… and ${what}: counted and hashed, not recorded`)}\n`;
}

function renderRows(terminal: Terminal, { columns, rows }: z.infer<typeof rowsSchema>): string {
  const cells = rows.map((row) => row.map((value) => ({ text: value ?? "" })));
  if (columns === undefined)
    return cells.map((row) => `${row.map((cell) => escapeControls(cell.text)).join("  ")}\n`).join("");
  const titles = columns.map(({ name, mask }) => ({
    title: escapeControls(mask === undefined ? name : `${name} (${mask})`),
  }));
  return table(terminal, titles, cells);
}

const clock = (at: number | undefined) => (at === undefined ? "" : new Date(at).toISOString().slice(11, 23));
