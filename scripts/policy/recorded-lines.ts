/** Sessions' recordings, for the policy tools: read over the API with the caller's own token, or as the CLI reads a store. */
import type { Invocation } from "../../gateway/cli/command.ts";
import { type Recordings, withRecordings } from "../../gateway/cli/recordings.ts";

/** Which gateway's, or which store's; neither: that of who is logged in. */
export interface RecordedWhere {
  readonly gateway?: string | undefined;
  readonly store?: string | undefined;
}

/** @throws ClientError where they cannot be read. */
export async function readRecordings<T>(
  { gateway, store }: RecordedWhere,
  use: (recordings: Recordings) => Promise<T>,
): Promise<T> {
  const invocation: Invocation = {
    values: { gateway, store },
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
  const read = Promise.withResolvers<T>();
  await withRecordings(invocation, async (recordings) => {
    read.resolve(await use(recordings));
    return 0;
  });
  return read.promise;
}
