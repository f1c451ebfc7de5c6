/**
 * Where literals, quoted names and comments are in a text, by PostgreSQL's lexical rules (standard_conforming_strings is
 * on, always). Source: "Lexical Structure" in its documentation, and its scanner's patterns (scan.l).
 */

export interface Lexeme {
  readonly kind: "literal" | "name" | "comment";
  readonly start: number;
  /** What is between its marks. */
  readonly inside: readonly [start: number, end: number];
  readonly stop: number;
}

// Words are among them so that none of their letters is taken for the start of something else: a$b$, nameE'…'.
const next =
  /(?<comment>--[^\n\r]*|\/\*)|(?<escaped>E'(?:\\[\s\S]|''|[^'\\])*'?)|(?<bits>[bx]'[^']*'?)|(?<plain>'(?:''|[^'])*'?)|(?<name>"(?:""|[^"])*"?)|(?<tag>\$(?:[a-z_\u{80}-\u{10ffff}][a-z0-9_\u{80}-\u{10ffff}]*)?\$)|[a-z_\u{80}-\u{10ffff}][a-z0-9_$\u{80}-\u{10ffff}]*/giu;

/** A literal goes on where only blanks with a line break, and comments to a line's end, are before the next quote. */
const goesOn = /[ \t\f\v]*(?:--[^\n\r]*)?[\n\r](?:[ \t\n\r\f\v]|--[^\n\r]*[\n\r])*'/y;
const escapedRest = /(?:\\[\s\S]|''|[^'\\])*'?/y;
const bitsRest = /[^']*'?/y;
const plainRest = /(?:''|[^'])*'?/y;

/** In the mode of its first part. @param stop behind a part's closing quote @returns where its last part stops */
function endOfLiteral(sql: string, stop: number, rest: RegExp): number {
  let end = stop;
  while (sql[end - 1] === "'") {
    goesOn.lastIndex = end;
    if (!goesOn.test(sql)) break;
    rest.lastIndex = goesOn.lastIndex;
    rest.test(sql);
    end = rest.lastIndex;
  }
  return end;
}

/** In the order of the text; none where only words, numbers and signs are. */
export function* lexemes(sql: string): Generator<Lexeme> {
  const scan = new RegExp(next);
  for (let match = scan.exec(sql); match !== null; match = scan.exec(sql)) {
    const { comment, escaped, bits, plain, name, tag } = match.groups ?? {};
    const start = match.index;
    if (comment === "/*") scan.lastIndex = endOfComment(sql, scan.lastIndex);
    if (tag !== undefined) {
      const closing = sql.indexOf(tag, scan.lastIndex);
      scan.lastIndex = closing < 0 ? sql.length : closing + tag.length;
    }
    if (escaped !== undefined && escaped.length > 2) scan.lastIndex = endOfLiteral(sql, scan.lastIndex, escapedRest);
    if (bits !== undefined && bits.length > 2) scan.lastIndex = endOfLiteral(sql, scan.lastIndex, bitsRest);
    if (plain !== undefined && plain.length > 1) scan.lastIndex = endOfLiteral(sql, scan.lastIndex, plainRest);
    const stop = scan.lastIndex;
    const kind = comment ? "comment" : name ? "name" : escaped || bits || plain || tag ? "literal" : undefined;
    if (kind === undefined) continue;
    const open = comment || escaped || bits ? 2 : tag ? tag.length : 1;
    const close = comment === undefined ? (tag ?? (name ? '"' : "'")) : comment === "/*" ? "*/" : "";
    const from = start + open;
    const to = stop - close.length;
    // One that is not closed goes to the end of the text.
    const isClosed = close !== "" && to >= from && sql.startsWith(close, to);
    yield { kind, start, inside: [from, isClosed ? to : stop], stop };
  }
}

/** Comments nest. @param from behind the mark that opens it */
export function endOfComment(sql: string, from: number): number {
  const marks = /\/\*|\*\//g;
  marks.lastIndex = from;
  let open = 1;
  for (let mark = marks.exec(sql); mark !== null; mark = marks.exec(sql)) {
    open += mark[0] === "/*" ? 1 : -1;
    if (open === 0) return marks.lastIndex;
  }
  return sql.length;
}
