/**
 * Takes secrets out of what is recorded, be it a statement, a parameter, a row or a target's error: passwords in role
 * DDL, options and connection strings, and strings shaped like well-known tokens. Role DDL that mentions PASSWORD loses
 * every literal, so no quoting can slip through. A binary value (\x and hex) that has one is taken out whole.
 */
import { type Lexeme, lexemes } from "./sql-lexemes.ts";

const redacted = "<redacted>";
const suspicious =
  /passw|pwd|secret|:\/\/|eyJ|AKIA|ASIA|gh[a-z]_|github_pat_|xox[a-z]-|sk-|AIza|ya29\.|gl[a-z]{2,4}-|hf_|npm_|dop_v1_|SG\.|PRIVATE KEY|bearer/i;
const ddl = /\b(?:role|user|group|server|subscription|mapping)\b/i;
const literal =
  /(\$(?:[\p{L}_][\p{L}\p{N}_]*)?\$)[\s\S]*?(?:\1|$)|\bE'(?:\\[\s\S]|''|[^'\\])*(?:'|$)|'(?:''|[^'])*(?:'|$)/giu;
const tokens: readonly RegExp[] = [
  /-----BEGIN [A-Z0-9 ]*PRIVATE KEY-----[\s\S]*?(?:-----END [A-Z0-9 ]*PRIVATE KEY-----|$)/g,
  /\beyJ[\w-]{5,}\.[\w-]+(?:\.[\w-]*)?/g,
  /\b(?:AKIA|ASIA)[A-Z0-9]{16}\b/g,
  /\b(?:gh[a-z]_\w{20,}|github_pat_\w{20,}|xox[a-z]-[\w-]{8,}|sk-[\w-]{16,}|AIza[\w-]{30,})/g,
  // Google OAuth, GitLab (glpat-, gldt-, glrt-, …), Hugging Face, npm, DigitalOcean, SendGrid.
  /\b(?:ya29\.[\w-]{16,}|gl[a-z]{2,4}-[\w-]{16,}|hf_\w{20,}|npm_\w{20,}|dop_v1_\w{20,}|SG\.[\w-]{16,}\.[\w-]{16,})/g,
];

/** What a literal follows that is a secret: its name, by any of the ways to give it a value. */
const namesSecret =
  /(?:\b[\w.]{0,64}(?:password|passwd|pwd|secret)\w{0,64}|U&"[^"]*\\[^"]*)"?\s{0,64}(?:=>?|:=|\bto\b)?[\s(]{0,64}(?:E|U&)?$|set_config\s{0,64}\(\s{0,64}'[\w.]{0,64}(?:password|passwd|pwd|secret)\w{0,64}'\s{0,64},[\s(]{0,64}$/i;
const escapedName = /U&"[^"]*\\/i;
const leadLength = 512;

/**
 * A statement with no secret in it, and all its SQL: who approves it must see what runs. What has one is a literal, a
 * quoted name or a comment, which goes as a whole.
 */
export function redactStatement(statement: string): string {
  if (!suspicious.test(statement) && !binary.test(statement) && !escapedName.test(statement)) return statement;
  let shown = "";
  let end = 0;
  /** What is before, comments left out. */
  let lead = "";
  for (const { kind, start, inside, stop } of lexemes(statement)) {
    const content = statement.slice(...inside);
    const whole = statement.slice(start, stop);
    const before = statement.slice(end, start);
    shown += before;
    lead = `${lead}${before}`.slice(-leadLength);
    const isSecret = (kind === "literal" && namesSecret.test(lead)) || redactSecrets(content) !== content;
    const [open, close] = marks(statement.slice(start, inside[0]), kind);
    shown += isSecret ? `${open}${redacted}${close}` : whole;
    lead += kind === "comment" ? " " : whole.slice(0, leadLength);
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
  return text.replace(binaries, (whole, hex: string) => (hasSecret(Buffer.from(hex, "hex")) ? redacted : whole));
}

function redactText(text: string): string {
  if (!suspicious.test(text)) return text;
  let result = text;
  if (/passw/i.test(text) && ddl.test(text) && /\b(?:create|alter)\b/i.test(text)) {
    result = result.replace(literal, `'${redacted}'`);
  }
  for (const token of tokens) result = result.replace(token, redacted);
  return result
    .replace(/("\w{0,32}(?:password|passwd|pwd|secret)\w{0,32}"\s{0,8}:\s{0,8}")(?:\\.|[^"\\])*"/gi, `$1${redacted}"`)
    .replace(/\b(bearer\s{1,8})[\w.~+/=-]{8,}/gi, `$1${redacted}`)
    .replace(/(:\/\/[^\s:/@'"]{0,128}:)[^\s'"]{1,512}@/g, `$1${redacted}@`)
    .replace(
      /\b((?:\w{0,32}password|passwd|pwd|\w{0,32}secret\w{0,32})\s{0,32}=\s{0,32})(?:''(?:\\[\s\S]|[^'])*''|'(?:\\[\s\S]|''|[^'])*'|"[^"]*"|[^\s'",;)]+)/gi,
      `$1${redacted}`,
    );
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
    typeof part === "string" ? redactSecrets(part).slice(0, lengthMax) : part,
  );
}
