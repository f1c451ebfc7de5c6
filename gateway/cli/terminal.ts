/** How the CLI writes: aligned columns, colours on a terminal only, and no control character that it did not choose. */

export interface Terminal {
  readonly out: (text: string) => void;
  readonly err: (text: string) => void;
  readonly isTTY: boolean;
  /** Characters in a line; tables are cut to it on a terminal. */
  readonly columns: number;
  readonly environment: Readonly<Record<string, string | undefined>>;
}

/** This process's own standard streams. */
export function processTerminal(): Terminal {
  return {
    out: (text) => void process.stdout.write(text),
    err: (text) => void process.stderr.write(text),
    isTTY: process.stdout.isTTY === true,
    columns: process.stdout.columns ?? 100,
    environment: process.env,
  };
}

export type Colour = "dim" | "bold" | "red" | "green" | "yellow" | "cyan";
const codes: Readonly<Record<Colour, string>> = {
  dim: "2",
  bold: "1",
  red: "31",
  green: "32",
  yellow: "33",
  cyan: "36",
};

export interface Cell {
  readonly text: string;
  readonly colour?: Colour;
}

export interface Column {
  readonly title: string;
  /** Cut with … past this many characters; the last column takes what the terminal has left. */
  readonly max?: number;
  readonly right?: boolean;
}

/** DEL, C1, line separators, and what is invisible or reorders text: it could drive a terminal or disguise a line. */
const beyondC0 = /[\x7f-\x9f\u2028\u2029\u202a-\u202e\ufff9-\ufffb\p{Default_Ignorable_Code_Point}]/gu;
const controls = new RegExp(`[\\x00-\\x1f]|${beyondC0.source}`, "gu");
const names: Readonly<Record<string, string>> = { "\n": "\\n", "\r": "\\r", "\t": "\\t" };

/** Recorded data as one harmless line. */
export function escapeControls(text: string): string {
  return text.replace(controls, (character) => {
    const known = names[character];
    if (known !== undefined) return known;
    const code = character.codePointAt(0) ?? 0;
    const digits = code.toString(16);
    if (code < 256) return `\\x${digits.padStart(2, "0")}`;
    return code < 65_536 ? `\\u${digits.padStart(4, "0")}` : `\\u{${digits}}`;
  });
}

export function paint(terminal: Terminal, colour: Colour | undefined, text: string): string {
  const coloured = terminal.isTTY && !terminal.environment.NO_COLOR;
  return coloured && colour !== undefined && text !== "" ? `\x1b[${codes[colour]}m${text}\x1b[0m` : text;
}

export function verdictColour(word: string): Colour | undefined {
  if (["allow", "approved", "ok"].includes(word)) return "green";
  if (["deny", "denied", "error", "interrupted"].includes(word)) return "red";
  if (["mask", "approve", "pending", "expired", "cancelled"].includes(word)) return "yellow";
  return undefined;
}

/** Cells a terminal gives a text: wide for CJK and emoji, as Bun counts it. */
const width = (text: string) => Bun.stringWidth(text);

function cut(text: string, max: number): string {
  if (width(text) <= max) return text;
  let short = "";
  for (const { segment } of new Intl.Segmenter().segment(text)) {
    if (width(short) + width(segment) > max - 1) break;
    short += segment;
  }
  return `${short}…`;
}

/** Rows under a header, aligned; nothing but the header's absence when there are no rows. */
export function table(terminal: Terminal, columns: readonly Column[], rows: readonly (readonly Cell[])[]): string {
  const escaped = rows.map((row) => row.map((cell) => ({ ...cell, text: escapeControls(cell.text) })));
  const widths = columns.map((column, index) => {
    const widest = Math.max(width(column.title), ...escaped.map((row) => width(row[index]?.text ?? "")));
    return Math.min(widest, column.max ?? Number.POSITIVE_INFINITY);
  });
  const last = columns.length - 1;
  if (terminal.isTTY) {
    const before = widths.slice(0, last).reduce((sum, one) => sum + one + 2, 0);
    widths[last] = Math.max(10, Math.min(widths[last] ?? 0, terminal.columns - before));
  }
  const line = (cells: readonly Cell[]) =>
    cells
      .map((cell, index) => {
        // Only a terminal is short of room: what is piped on is whole.
        const room = widths[index] ?? 0;
        const text = terminal.isTTY ? cut(cell.text, room) : cell.text;
        const padding = " ".repeat(Math.max(0, room - width(text)));
        const painted = paint(terminal, cell.colour, text);
        if (columns[index]?.right === true) return padding + painted;
        return index === last ? painted : painted + padding;
      })
      .join("  ")
      .trimEnd();
  const header = line(columns.map((column): Cell => ({ text: column.title, colour: "dim" })));
  return [header, ...escaped.map(line)].map((text) => `${text}\n`).join("");
}

/** "2026-01-31 12:00:05" in UTC, for columns. */
export function shortTime(time: string | number | null | undefined): string {
  if (time === null || time === undefined) return "";
  const date = new Date(time);
  return Number.isNaN(date.getTime()) ? "" : date.toISOString().slice(0, 19).replace("T", " ");
}

/** "45s", "12m", "3h05m"; "" of what is no time. */
export function shortDuration(ms: number): string {
  if (Number.isNaN(ms)) return "";
  const seconds = Math.max(0, Math.round(ms / 1_000));
  if (seconds < 60) return `${seconds}s`;
  const minutes = Math.floor(seconds / 60);
  if (minutes < 60) return `${minutes}m${seconds % 60 === 0 ? "" : `${String(seconds % 60).padStart(2, "0")}s`}`;
  return `${Math.floor(minutes / 60)}h${String(minutes % 60).padStart(2, "0")}m`;
}

/** PostgreSQL ends a line, and with it a comment, at a carriage return too: it breaks the line here, and is seen. */
const linesOf = (text: string) => text.split(/\n|(?<=\r)(?!\n)/);

/** A text of several lines, each harmless. */
export function escapedLines(text: string, indent: string): string {
  return linesOf(text).map(escapeControls).join(`\n${indent}`);
}

/** A statement where there is room for one line: its first, and how many there are. Joined, a comment would hide the rest. */
export function firstLine(text: string): string {
  const lines = linesOf(text).filter((line) => /[^ \t\v\f\r]/.test(line));
  const [first = ""] = lines;
  return lines.length > 1 ? `(1 of ${lines.length} lines) ${first}` : first;
}

/** Each UTF-16 unit by itself, as JSON spells them. */
const escapeUnits = (character: string) =>
  character.replace(/./gs, (unit) => `\\u${unit.charCodeAt(0).toString(16).padStart(4, "0")}`);

/** JSON escapes C0 by itself; what else could drive a terminal is escaped here. */
export function jsonText(value: unknown, indent?: number): string {
  return JSON.stringify(value, undefined, indent).replace(beyondC0, escapeUnits);
}

/** One line of JSON from elsewhere: the same value, though not the same bytes, without what could drive a terminal. */
export function harmlessJson(line: string): string {
  return line.replace(controls, escapeUnits);
}

export function printJson(terminal: Terminal, value: unknown): void {
  terminal.out(`${jsonText(value, 2)}\n`);
}
