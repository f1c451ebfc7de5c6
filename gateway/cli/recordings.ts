/** Where the CLI reads recordings: the API with the caller's token, or a store directly for the operator. */
import { z } from "zod";
import { connectApi } from "./api-client.ts";
import { type Invocation, stringOption } from "./command.ts";
import { openStore } from "./store-source.ts";
import { whole } from "./whole.ts";

export const sessionSchema = z.looseObject({
  id: z.string(),
  identity: z.looseObject({ subject: z.string(), email: z.string(), kind: z.string() }),
  target: z.string(),
  openedAt: z.string(),
  closedAt: z.string().nullable(),
  closeReason: z.string().nullable(),
  commands: z.number(),
});
export type SessionSummary = z.infer<typeof sessionSchema>;

export interface SessionFilter {
  readonly who?: string | undefined;
  readonly target?: string | undefined;
  readonly verdict?: string | undefined;
  readonly text?: string | undefined;
  /** RFC 3339. */
  readonly since?: string | undefined;
  readonly until?: string | undefined;
  readonly limit: number;
  readonly before?: string | undefined;
}

export interface SessionPage {
  readonly sessions: readonly SessionSummary[];
  /** `before` of the next page, or null on the last. */
  readonly next: string | null;
}

export interface Recordings {
  list(filter: SessionFilter): Promise<SessionPage>;
  /** One line of JSON each, as recorded. */
  lines(id: string): AsyncGenerator<string>;
  /** @param isNamed the store itself names it, so that where it is not there that is found, and no mistake */
  verify(id: string, isNamed?: boolean): Promise<unknown>;
  /** Sessions that were sealed and are no longer there; only who reads the store itself can tell. */
  missing?(): Promise<readonly string[]>;
  /** What is wrong with the list of sessions, and with the chain of all seals; as above. */
  problems?(): Promise<Readonly<Record<string, string | undefined>>>;
  close(): Promise<void>;
}

const countSchema = z.looseObject({ events: z.number() });
const pageSchema = z.object({ sessions: z.array(sessionSchema), next: z.string().nullable() });

/** Opens what the line names, runs `use`, and closes it whatever happens. */
export async function withRecordings(
  invocation: Invocation,
  use: (recordings: Recordings) => Promise<number>,
): Promise<number> {
  const store = stringOption(invocation, "store");
  const { environment } = invocation.terminal;
  const recordings =
    store === undefined
      ? await overApi(invocation)
      : await openStore({ store, key: stringOption(invocation, "key"), environment });
  try {
    return await use(recordings);
  } finally {
    await recordings.close();
  }
}

async function overApi(invocation: Invocation): Promise<Recordings> {
  const api = await connectApi(invocation);
  const path = (id: string, rest = "") => `/v1/sessions/${encodeURIComponent(id)}${rest}`;
  return {
    async list(filter) {
      return pageSchema.parse(await api.get("/v1/sessions", { ...filter, limit: String(filter.limit) }));
    },
    async *lines(id) {
      const { events } = countSchema.parse(await api.get(path(id)));
      yield* whole(api.lines(path(id, "/events")), events);
    },
    verify: (id) => api.get(path(id, "/verify")),
    close: async () => {},
  };
}
