/**
 * Takes secrets out of what is recorded, be it a statement, a parameter, a row or a target's error: passwords in role
 * DDL, options and connection strings, and strings shaped like well-known tokens. Role DDL that mentions PASSWORD loses
 * every literal, so no quoting can slip through, and a user mapping does, whose options each wrapper names in its own way.
 * A binary value (\x and hex) that has one is taken out whole.
 *
 * Callers write these texts, and the one thread waits: each pattern takes time in proportion to a text's length. But
 * for a bounded part, none begins again within what another attempt has passed over, or has two ways to match the same.
 */
import { limits } from "../limits.ts";
import { redacted, withoutNamedSecrets } from "./named-secrets.ts";
import { type Lexeme, lexemes } from "./sql-lexemes.ts";

const suspicious =
  /passw|pwd|secret|:\/\/|eyJ|AKIA|ASIA|gh[a-z]_|github_pat_|xox[a-z]-|sk-|AIza|ya29\.|gl[a-z]{2,4}-|hf_|npm_|dop_v1_|SG\.|[sr]k_live_|whsec_|hvs\.|dckr_pat_|pypi-|SCRAM-SHA|mapping|PRIVATE KEY|bearer/i;
const ddl = /\b(?:role|user|group|server|subscription|mapping)\b/i;
const literal =
  /(\$(?:[\p{L}_][\p{L}\p{N}_]*)?\$)[\s\S]*?(?:\1|$)|\bE'(?:\\[\s\S]|''|[^'\\])*(?:'|$)|'(?:''|[^'])*(?:'|$)/giu;
/** Which PostgreSQL refuses, and repeats. */
const barePassword =
  /(\b(?:create|alter)\s{1,64}(?:role|user|group)\s[^;]{0,512}?\bpassword\s{1,64})(?!null\b|['=%$])(?:"[^"]*"?|[^\s"';]+)/gi;
/** Looked for from where a run of its letters begins, once, and only where a dot ends it. */
const jwt = /(?<![\w-])(?=[\w-]+\.[\w-])([\w-]*?)\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?/g;
const tokens: readonly RegExp[] = [
  /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g,
  /\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/g,
  /\b(?:gh[a-z]_\w{20,}|github_pat_\w{20,}|xox[a-z]-[\w-]{8,}|sk-[\w-]{16,}|AIza[\w-]{30,})/g,
  // Stripe, Vault, Docker, PyPI; and PostgreSQL's own, by which a password can be tried, or a client log in.
  /\b(?:[sr]k_live_\w{16,}|whsec_[\w+/=]{16,}|hvs\.[\w-]{16,}|dckr_pat_[\w-]{16,}|pypi-[\w-]{32,})/g,
  /\bSCRAM-SHA-256\$\d{1,10}:[\w+/=]+\$[\w+/=]+:[\w+/=]+/g,
  // Google OAuth, GitLab (glpat-, gldt-, glrt-, …), Hugging Face, npm, DigitalOcean, SendGrid.
  /\b(?:ya29\.[\w-]{16,}|gl[a-z]{2,4}-[\w-]{16,}|hf_\w{20,}|npm_\w{20,}|dop_v1_\w{20,}|SG\.[\w-]{16,}\.[\w-]{16,})/g,
];

/** What a literal follows that is a secret: its name, by any of the ways to give it a value. */
const namesSecret =
  /(?:(?:password|passwd|pwd|secret)\w{0,64}(?!\w)|U&"[^"\\]*\\[^"]*)"?\s{0,64}(?:=>?|:=|\bto\b)?[\s(]{0,64}(?:U&|N)?$|set_config\s{0,64}\(\s{0,64}'[\w.]{0,64}(?:password|passwd|pwd|secret)\w{0,64}'\s{0,64},[\s(]{0,64}(?:U&|N)?$/i;
/** What `suspicious` may not see: a name in escapes, a literal that goes on over lines. */
const inPieces = /U&"[^"]*\\|'[ \t\f\v]*(?:--|[\n\r][ \t\n\r\f\v]*(?:'|--))/i;
const leadLength = 512;
const userMapping = /\b(?:create|alter)\s{1,64}user\s{1,64}mapping\b/i;
const beginningLength = 256;

/**
 * A statement with no secret in it, and all its SQL: who approves it must see what runs. What has one is a literal
 * or a comment, which goes as a whole; a quoted name does where it is shaped like a token, whatever else it says.
 */
export function redactStatement(statement: string): string {
  if (!suspicious.test(statement) && !binary.test(statement) && !inPieces.test(statement)) return statement;
  let shown = "";
  let end = 0;
  /** What is before, comments left out. */
  let lead = "";
  /** How the statement begins that a lexeme is in. */
  let beginning = "";
  for (const { kind, start, open, content, stop } of lexemes(statement)) {
    const whole = statement.slice(start, stop);
    const before = statement.slice(end, start);
    shown += before;
    lead = `${lead}${before}`.slice(-leadLength);
    const last = before.lastIndexOf(";");
    beginning = `${last < 0 ? beginning : ""}${before.slice(last + 1)}`.trimStart().slice(0, beginningLength);
    const isSecret =
      kind === "name"
        ? withoutTokens(content) !== content
        : (kind === "literal" && (userMapping.test(beginning) || namesSecret.test(lead))) ||
          redactSecrets(content) !== content;
    const [left, right] = marks(open, kind);
    shown += isSecret ? `${left}${redacted}${right}` : whole;
    lead += kind === "comment" ? " " : whole.slice(0, leadLength);
    beginning += kind === "comment" ? " " : "";
    end = stop;
  }
  return shown + statement.slice(end);
}

function marks(open: string, kind: Lexeme["kind"]): readonly [string, string] {
  if (kind === "literal") return ["'", "'"];
  if (kind === "name") return [open, '"'];
  return open === "--" ? ["--", ""] : ["/*", "*/"];
}

/** As recordings spell a value that a driver sends in its binary form, and PostgreSQL a bytea; long enough for a secret. */
const binary = /\\x[0-9a-f]{16}/i;
const binaries = /\\x((?:[0-9a-f]{2}){8,})/gi;

export function redactSecrets(text: string): string {
  return redactText(redactBinaries(text));
}

function redactBinaries(text: string): string {
  if (!text.includes("\\")) return text;
  return text.replace(binaries, (whole, hex: string) => (hasSecret(Buffer.from(hex, "hex")) ? redacted : whole));
}

function redactText(text: string): string {
  if (!suspicious.test(text)) return text;
  let result = text;
  const isRole = /passw/i.test(text) && ddl.test(text) && /\b(?:create|alter)\b/i.test(text);
  if (isRole || userMapping.test(text)) {
    result = result.replace(literal, `'${redacted}'`);
  }
  return withoutNamedSecrets(
    withoutTokens(result)
      .replace(
        /((?:password|passwd|pwd|secret)\w{0,32}"\s{0,8}:\s{0,8}")(?:\\[\s\S]|[^"\\])*(?:"|\\?$)/gi,
        `$1${redacted}"`,
      )
      .replace(/\b(bearer\s{1,8})[\w.~+/=-]{8,}/gi, `$1${redacted}`),
  ).replace(barePassword, `$1${redacted}`);
}

function withoutTokens(text: string): string {
  let result = text.replace(jwt, `$1${redacted}`);
  for (const token of tokens) result = result.replace(token, redacted);
  return result;
}

function hasSecret(bytes: Buffer): boolean {
  // A length before text in a binary array or row may look like a letter of it.
  const text = bytes.toString("latin1").replace(/\0{2,3}[\s\S]/g, " ");
  return redactText(text) !== text;
}

const binaryInJson = /\\\\x[0-9a-f]{16}/i;

/** `value` as JSON.stringify writes it, but for secrets in its strings, and for what is longer than `lengthMax` in one. */
export function redactedJson(value: unknown, lengthMax = Number.POSITIVE_INFINITY): string {
  const json = JSON.stringify(value);
  if (json.length <= lengthMax && !suspicious.test(json) && !binaryInJson.test(json)) return json;
  return JSON.stringify(value, (_, part) =>
    // Before the cut, so that no secret is cut to what no pattern knows.
    typeof part === "string"
      ? redactSecrets(part.slice(0, lengthMax + limits.tokenBytesMax)).slice(0, lengthMax)
      : part,
  );
}
