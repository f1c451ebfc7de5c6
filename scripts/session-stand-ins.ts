/** What a session needs below it, where nothing is to be kept: for tests, and for judging without a store. */
import type { RecordedEvent, SessionOpened } from "../gateway/recording/events.ts";
import type { RecordingSource, SessionStore } from "../gateway/session/dependencies.ts";
import type { Hold } from "../gateway/session/session.ts";

/** Knows every kind of command, and of no approval. */
export const emptyStore: SessionStore = {
  fingerprintSeen: async () => true,
  recordFingerprint: () => undefined,
  createApproval: async () => undefined,
  getApproval: async () => undefined,
  consumeApproval: async () => false,
  expireApproval: async () => undefined,
};

/** Every session's events go to one list, and may be acted upon at once. */
export function recordingInto(events: RecordedEvent[]): RecordingSource {
  return {
    session: (opened) => {
      events.push(opened);
      return {
        append: (event) => void events.push(event),
        committed: () => undefined,
        close: async (event) => void events.push(event),
      };
    },
  };
}

/** Of a caller who never cancels, where nothing changes meanwhile. */
export const quietHold: Hold = {
  notify: () => undefined,
  signal: new AbortController().signal,
  stillMeans: async () => "same",
};

/** Recorded as it is: for texts that hold no secret, or go nowhere. */
export const asItIs = { statement: (text: string) => text, value: (text: string) => text };

/** How a session of `subject` begins in its recording. */
export const sessionOpened = (session: string, subject = "ann", at = 1_000): SessionOpened => ({
  ...{ type: "session.opened", at, session, gateway: "g", verdict: "allow", rules: [] },
  identity: { issuer: "https://idp", subject, email: `${subject}@example.com`, groups: [], kind: "human", claims: {} },
  target: { name: "db", kind: "postgres", database: "app", labels: {} },
  client: { address: "127.0.0.1", application: "test" },
  context: { reason: "", prompt: "", ticket: "", trace: "" },
  revision: { digest: "sha256:r" },
});
