/** One command of a recorded session, with the input that policy saw: read over the API with the caller's own token, or from a store. */
import type { Invocation } from "../../gateway/cli/command.ts";
import { withRecordings } from "../../gateway/cli/recordings.ts";
import type { CommandInput } from "../../gateway/policy/input.ts";
import type { Intent, RecordedEvent } from "../../gateway/recording/events.ts";
import { recordedInputs } from "./recorded-input.ts";

export interface Explained {
  readonly intent: Intent;
  readonly input: CommandInput;
}

/** @throws Error where the session has no such command; ClientError where it cannot be read. */
export async function recordedCommand(
  session: string,
  command: number,
  where: { readonly gateway?: string | undefined; readonly store?: string | undefined },
): Promise<Explained> {
  const invocation: Invocation = {
    values: { gateway: where.gateway, store: where.store },
    positionals: [],
    signal: new AbortController().signal,
    terminal: {
      out: (text) => void process.stdout.write(text),
      err: (text) => void process.stderr.write(text),
      isTTY: false,
      columns: 100,
      environment: process.env,
    },
  };
  let found: Explained | undefined;
  await withRecordings(invocation, async (recordings) => {
    found = await find(recordings.lines(session), command);
    return 0;
  });
  if (found === undefined) throw new Error(`session ${session} has no command ${command}`);
  return found;
}

/** @param lines of a session's recording, in order. */
async function find(lines: AsyncIterable<string>, command: number): Promise<Explained | undefined> {
  for await (const { intent, input } of recordedInputs(eventsOf(lines))) {
    if (intent.command === command) return input && { intent, input };
  }
  return undefined;
}

async function* eventsOf(lines: AsyncIterable<string>): AsyncGenerator<RecordedEvent> {
  for await (const line of lines) yield JSON.parse(line) as RecordedEvent;
}
