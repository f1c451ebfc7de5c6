/** One command of a recorded session, with the input that policy saw: read over the API with the caller's own token, or from a store. */
import type { CommandInput } from "../../gateway/policy/input.ts";
import type { Intent, RecordedEvent } from "../../gateway/recording/events.ts";
import { recordedInputs } from "./recorded-input.ts";
import { type RecordedWhere, readRecordings } from "./recorded-lines.ts";

export interface Explained {
  readonly intent: Intent;
  readonly input: CommandInput;
}

/** @throws Error where the session has no such command; ClientError where it cannot be read. */
export async function recordedCommand(session: string, command: number, where: RecordedWhere): Promise<Explained> {
  const found = await readRecordings(where, (recordings) => find(recordings.lines(session), command));
  if (found === undefined) throw new Error(`session ${session} has no command ${command}`);
  return found;
}

/**
 * The last judgement of a command: one that was held was judged again once approved.
 *
 * @param lines of a session's recording, in order.
 */
async function find(lines: AsyncIterable<string>, command: number): Promise<Explained | undefined> {
  let found: Explained | undefined;
  for await (const { intent, input } of recordedInputs(eventsOf(lines))) {
    if (intent.command > command) break;
    if (intent.command === command) found = input && { intent, input };
  }
  return found;
}

async function* eventsOf(lines: AsyncIterable<string>): AsyncGenerator<RecordedEvent> {
  for await (const line of lines) yield JSON.parse(line) as RecordedEvent;
}
