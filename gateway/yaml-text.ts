/** YAML that people write, with the line of each of its parts, so that an error can name it. */
import { type Document, LineCounter, parseDocument, visit } from "yaml";

/** The line of what a path leads to, from 1; where it leads nowhere, of the nearest part above it. */
export type LineOf = (path: readonly PropertyKey[]) => number;

export class YamlSyntaxError extends Error {
  readonly line: number;

  constructor(line: number, message: string) {
    super(message);
    this.line = line;
  }
}

export interface YamlText {
  /** null of an empty text. */
  readonly value: unknown;
  readonly lineOf: LineOf;
}

/**
 * @param maxAliasCount what aliases may expand to
 * @throws YamlSyntaxError, also where a map has a key twice
 */
export function parseYamlText(text: string, maxAliasCount = 100): YamlText {
  const lines = new LineCounter();
  const document = parseDocument(text, { lineCounter: lines, uniqueKeys: true, prettyErrors: false });
  const [syntax] = document.errors;
  if (syntax !== undefined) throw new YamlSyntaxError(lines.linePos(syntax.pos[0]).line, syntax.message);
  const lineOf: LineOf = (path) => {
    for (let length = path.length; length > 0; length--) {
      const node = document.getIn(path.slice(0, length), true) as { range?: [number, number, number] } | undefined;
      if (node?.range) return lines.linePos(node.range[0]).line;
    }
    return 1;
  };
  try {
    return { value: document.toJS({ maxAliasCount }), lineOf };
  } catch (cause) {
    // An alias of nothing, or aliases that expand to too much.
    throw new YamlSyntaxError(lines.linePos(firstDangling(document)).line, (cause as Error).message);
  }
}

/** Where the first alias of nothing is; 0 where there is none. */
function firstDangling(document: Document): number {
  let offset = 0;
  visit(document, {
    Alias(_, alias) {
      if (alias.resolve(document) !== undefined) return;
      offset = alias.range?.[0] ?? 0;
      return visit.BREAK;
    },
  });
  return offset;
}
