/** Events on their way to the store: `<session>\t<number of the event>\t<event as JSON>\n`. */

export interface Line {
  readonly session: string;
  readonly event: number;
  readonly json: string;
}

export function formatLine(session: string, event: number, json: string): string {
  return `${session}\t${event}\t${json}\n`;
}

/** @param line without its line feed */
export function parseLine(line: string): Line {
  const first = line.indexOf("\t");
  const second = line.indexOf("\t", first + 1);
  return { session: line.slice(0, first), event: Number(line.slice(first + 1, second)), json: line.slice(second + 1) };
}
