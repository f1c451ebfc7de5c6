/**
 * Structured logs: one JSON object a line on stderr, or aligned text where stderr is a terminal.
 * No secret passes: values under keys that name one are replaced, and token-like text is cut out of every string.
 */
import { GatewayError } from "./errors.ts";

export const logLevels = ["debug", "info", "warn", "error"] as const;
export type LogLevel = (typeof logLevels)[number];
export type LogFields = Readonly<Record<string, unknown>>;

export interface Logger {
  debug(message: string, fields?: LogFields): void;
  info(message: string, fields?: LogFields): void;
  warn(message: string, fields?: LogFields): void;
  error(message: string, fields?: LogFields): void;
  /** A logger that adds `fields` to each of its lines. */
  child(fields: LogFields): Logger;
}

export interface LoggerOptions {
  readonly level?: LogLevel;
  /** Takes one line with its newline; stderr when not given. */
  readonly write?: (line: string) => void;
  readonly pretty?: boolean;
  /** Of what is pretty; not where NO_COLOR is set, unless given. */
  readonly coloured?: boolean;
  readonly now?: () => Date;
}

const stringCharactersMax = 4_096;
const depthMax = 6;
const entriesMax = 100;
const redacted = "[redacted]";

const secretKey =
  /token|password|passwd|pwd|passphrase|authorization|secret|cookie|credential|private_?-?key|api_?-?key|hash_?-?key|^assertion$|^code_verifier$|^device_code$/i;

const tokenLike: readonly (readonly [RegExp, string])[] = [
  // A private key in PEM, whole or cut off.
  [/-----BEGIN [A-Z ]*PRIVATE KEY-----[\s\S]*?(-----END [A-Z ]*PRIVATE KEY-----|$)/g, redacted],
  // JWS and JWE in compact form: the first part is base64url of '{"'.
  [/\beyJ[A-Za-z0-9_-]{6,}(\.[A-Za-z0-9_-]*){0,4}/g, redacted],
  [/\b(bearer|basic)\s+[A-Za-z0-9._~+/=-]{8,}/gi, `$1 ${redacted}`],
  // A password inside a URL or a conninfo string.
  [/([a-z][a-z0-9+.-]{0,30}:\/\/[^\s:/?#@]*):[^\s/?#@]+@/gi, `$1:${redacted}@`],
  [
    /\b(password|passwd|pwd|secret|token|api_?key)(\s*[=:]\s*)('(?:[^'\\]|\\.|'')*'|"[^"]*"|[^\s,;&)]+)/gi,
    `$1$2${redacted}`,
  ],
  // Keys with a vendor's prefix: AWS, Google, GitHub, GitLab, Slack, OpenAI and alike.
  [/\b(AKIA|ASIA)[A-Z0-9]{16}\b/g, redacted],
  [/\bAIza[A-Za-z0-9_-]{30,}/g, redacted],
  [/\bya29\.[A-Za-z0-9_-]{10,}/g, redacted],
  [/\b(gh[opsur]_|github_pat_|glpat-|xox[abeprs]-|sk-|hf_|npm_)[A-Za-z0-9_-]{16,}/g, redacted],
];

/** `text` without anything that looks like a credential. */
export function redactText(text: string): string {
  // Cut before, so that a huge string costs little, and after, so that no secret is cut in half and missed.
  let clean = text.slice(0, 2 * stringCharactersMax);
  for (const [pattern, replacement] of tokenLike) clean = clean.replace(pattern, replacement);
  return clean.length > stringCharactersMax ? `${clean.slice(0, stringCharactersMax)}…` : clean;
}

/** A copy of `value` that is safe to write: plain, bounded in depth and size, without secrets. */
function redactValue(value: unknown, depth: number, seen: readonly object[]): unknown {
  if (typeof value === "string") return redactText(value);
  if (typeof value === "bigint") return value.toString();
  if (typeof value === "function" || typeof value === "symbol") return `[${typeof value}]`;
  if (typeof value !== "object" || value === null) return value;
  if (seen.includes(value)) return "[circular]";
  if (depth >= depthMax) return "[deep]";
  if (value instanceof Date) return Number.isNaN(value.getTime()) ? null : value.toISOString();
  if (ArrayBuffer.isView(value) || value instanceof ArrayBuffer) return `[${value.byteLength} bytes]`;
  const path = [...seen, value];
  if (value instanceof Error) return redactError(value, depth, path);
  if (Array.isArray(value)) return value.slice(0, entriesMax).map((item) => redactValue(item, depth + 1, path));
  if (value instanceof Map || value instanceof Set) return redactValue([...value], depth, seen);
  return redactEntries(Object.entries(value), depth, path);
}

function redactError(error: Error, depth: number, path: readonly object[]): Record<string, unknown> {
  const code: unknown = (error as { code?: unknown }).code;
  return {
    name: error.name,
    message: redactText(error.message),
    ...((typeof code === "string" || typeof code === "number") && { code }),
    // A GatewayError is expected: its code says where it is from. Anything else is a fault to be found.
    ...(!(error instanceof GatewayError) && error.stack !== undefined && { stack: redactText(error.stack) }),
    ...(error.cause !== undefined && { cause: redactValue(error.cause, depth + 1, path) }),
  };
}

function redactEntries(entries: [string, unknown][], depth: number, path: readonly object[]): Record<string, unknown> {
  const clean: Record<string, unknown> = Object.create(null);
  for (const [key, value] of entries.slice(0, entriesMax)) {
    if (value === undefined) continue;
    const counts = typeof value === "number" || typeof value === "boolean";
    clean[redactText(key)] = secretKey.test(key) && !counts ? redacted : redactValue(value, depth + 1, path);
  }
  return clean;
}

/** Fields as they may be written: see `redactText` for strings. */
export function redactFields(fields: LogFields): Record<string, unknown> {
  return redactEntries(Object.entries(fields), 0, [fields]);
}

const colours: Readonly<Record<LogLevel, string>> = {
  debug: "\x1b[2m",
  info: "\x1b[36m",
  warn: "\x1b[33m",
  error: "\x1b[31m",
};

function prettyValue(value: unknown): string {
  const text = typeof value === "string" && /^[\w@./:+-]+$/.test(value) ? value : JSON.stringify(value);
  return escapeControls(text ?? "");
}

// biome-ignore lint/suspicious/noControlCharactersInRegex: control characters are what this is about.
const controls = /[\x00-\x1f\x7f-\x9f\u200e\u200f\u2028\u2029\u202a-\u202e\u2066-\u2069]/g;
const escapeControls = (text: string) =>
  text.replace(controls, (character) => `\\u${character.charCodeAt(0).toString(16).padStart(4, "0")}`);

type Paint = (code: string, text: string) => string;
const inColour: Paint = (code, text) => `${code}${text}\x1b[0m`;
const plain: Paint = (_, text) => text;

interface Line {
  readonly at: Date;
  readonly level: LogLevel;
  readonly message: string;
  readonly fields: Record<string, unknown>;
}

function prettyLine({ at, level, message, fields }: Line, paint: Paint): string {
  const pairs = Object.entries(fields).map(
    ([key, value]) => ` ${paint(colours.debug, `${escapeControls(key)}=`)}${prettyValue(value)}`,
  );
  const time = paint(colours.debug, at.toISOString().slice(11, 23));
  return `${time} ${paint(colours[level], level.padEnd(5))} ${escapeControls(message)}${pairs.join("")}\n`;
}

export function createLogger(options: LoggerOptions = {}): Logger {
  const write = options.write ?? ((line: string) => void process.stderr.write(line));
  const pretty = options.pretty ?? (options.write === undefined && process.stderr.isTTY === true);
  const paint = (options.coloured ?? !process.env.NO_COLOR) ? inColour : plain;
  const now = options.now ?? (() => new Date());
  const threshold = logLevels.indexOf(options.level ?? "info");

  function build(bound: Record<string, unknown>): Logger {
    const at = (level: LogLevel) => (message: string, fields?: LogFields) => {
      if (logLevels.indexOf(level) < threshold) return;
      try {
        const all = { ...bound, ...(fields && redactFields(fields)) };
        const text = redactText(message);
        const time = now();
        write(
          pretty
            ? prettyLine({ at: time, level, message: text, fields: all }, paint)
            : `${escapeControls(JSON.stringify({ ...all, time: time.toISOString(), level, message: text }))}\n`,
        );
      } catch {
        // A log line must never take a session down (a throwing getter, a closed stderr).
      }
    };
    return {
      debug: at("debug"),
      info: at("info"),
      warn: at("warn"),
      error: at("error"),
      child: (fields) => build({ ...bound, ...redactFields(fields) }),
    };
  }
  return build({});
}
