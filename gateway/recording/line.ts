/** Events on their way to the store: `<session>\t<number of the event>\t<event as JSON>\n`. */
import type { Utf8Writer } from "./utf8-writer.ts";

export interface Line {
  readonly session: string;
  readonly event: number;
  readonly json: string;
}

const tab = 0x09;

/** @param json the event, with its line feed */
export function writeLine(to: Utf8Writer, session: string, event: number, json: Uint8Array): void {
  to.json(session).byte(tab).number(event).byte(tab).raw(json);
}

/** @param line without its line feed */
export function parseLine(line: string): Line {
  const first = line.indexOf("\t");
  const second = line.indexOf("\t", first + 1);
  return { session: line.slice(0, first), event: Number(line.slice(first + 1, second)), json: line.slice(second + 1) };
}
