/**
 * Takes secrets out of text before it is recorded: passwords in role DDL, options and connection strings, and strings
 * shaped like well-known tokens. Role DDL that mentions PASSWORD loses every literal, so no quoting can slip through.
 */
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

export function redactSecrets(text: string): string {
  if (!suspicious.test(text)) return text;
  let result = text;
  if (/passw/i.test(text) && ddl.test(text) && /\b(?:create|alter)\b/i.test(text)) {
    result = result.replace(literal, `'${redacted}'`);
  }
  for (const token of tokens) result = result.replace(token, redacted);
  return result
    .replace(/\b(bearer\s{1,8})[\w.~+/=-]{8,}/gi, `$1${redacted}`)
    .replace(/(:\/\/[^\s:/@'"]{0,128}:)[^\s'"]{1,512}@/g, `$1${redacted}@`)
    .replace(
      /\b((?:\w{0,32}password|passwd|pwd|\w{0,32}secret\w{0,32})\s{0,32}=\s{0,32})(?:''(?:\\[\s\S]|[^'])*''|'(?:\\[\s\S]|''|[^'])*'|"[^"]*"|[^\s'",;)]+)/gi,
      `$1${redacted}`,
    );
}
