/**
 * Secrets that a text gives by name: a connection string's values, and the password in a URI. One ends where libpq ends
 * it, at a blank, or with the quotes that the whole is in (JSON, CSV, SQL). Each pass goes from left to right once: what
 * was looked at for one secret is not looked at for the next.
 */
export const redacted = "<redacted>";

/** The quotes that are open at a place, if any. */
type Quote = "" | "'" | '"';

const assignment = /(?:password|passwd|pwd|secret\w{0,32})\s{0,32}=\s{0,32}/gi;
/** Behind a value that has the name of another in it. */
const equals = /\s{0,32}=\s{0,32}|(?<=(?:password|passwd|pwd|secret\w{0,32})=)\s{1,32}/iy;
/** Also in an SQL literal, where quotes are doubled; and by SQL's rules, where a backslash escapes none. */
const quoted =
  /''(?:\\[\s\S]|[^'\\])*''|''[^']+''|'(?:\\[\s\S]|''|[^'\\])*'|'[^']*'|"(?:\\[\s\S]|""|[^"\\])*"|"[^"]*"/y;
const user = /:\/\/[^\s:/'"]*:/g;
const unquoted: Readonly<Record<Quote, RegExp>> = {
  "": /[^\s\\]*(?:\\[\s\S][^\s\\]*)*/y,
  "'": /[^\s\\']*(?:(?:\\[\s\S]|'')[^\s\\']*)*/y,
  '"': /[^\s\\"]*(?:\\[\s\S][^\s\\"]*)*/y,
};

export function withoutNamedSecrets(text: string): string {
  return replaced(replaced(text, user, passwordOfUri()), assignment, endOfValue);
}

/** Where what begins at `from` ends; at `from` where it is no secret. Places are asked about from left to right. */
type EndOf = (text: string, from: number, openAt: (at: number) => Quote) => number;

/** @param name what the secrets follow */
function replaced(text: string, name: RegExp, endOf: EndOf): string {
  const openAt = openQuotes(text);
  let shown = "";
  let end = 0;
  name.lastIndex = 0;
  while (name.test(text)) {
    const from = name.lastIndex;
    const to = endOf(text, from, openAt);
    if (to === from) continue;
    shown += text.slice(end, from) + redacted;
    end = to;
    name.lastIndex = to;
  }
  return shown + text.slice(end);
}

const endOfValue: EndOf = (text, from, openAt) => {
  for (let next: number | undefined = from; ; ) {
    const inQuotes = endOfMatch(quoted, text, next);
    if (inQuotes !== undefined) return inQuotes;
    const end = endOfUnquoted(text, next, openAt);
    // As in password=a,secret = b: the next one's name has gone with this value, and its value is no other's.
    next = end > next ? endOfMatch(equals, text, end) : undefined;
    if (next === undefined) return end;
  }
};

const endOfUnquoted: EndOf = (text, from, openAt) => endOfMatch(unquoted[openAt(from)], text, from) ?? from;

function endOfMatch(pattern: RegExp, text: string, from: number): number | undefined {
  pattern.lastIndex = from;
  return pattern.test(text) ? pattern.lastIndex : undefined;
}

/** Up to the last @ before a blank: a password has any others in clear. */
function passwordOfUri(): EndOf {
  let known = 0;
  return (text, from, openAt) => {
    if (from < known) return from;
    known = endOfUnquoted(text, from, openAt);
    return from + Math.max(0, text.slice(from, known).lastIndexOf("@"));
  };
}

/** @returns to be asked from left to right */
function openQuotes(text: string): (at: number) => Quote {
  let next = 0;
  let open: Quote = "";
  return (at) => {
    for (; next < at; next += 1) {
      const character = text[next];
      if (character === "\\") next += 1;
      else if (character === open) open = "";
      else if (open === "" && (character === "'" || character === '"')) open = character;
    }
    return open;
  };
}
