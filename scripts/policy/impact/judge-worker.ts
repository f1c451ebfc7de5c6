/** A thread of `policy impact`. */
import { shareModule } from "../../../gateway/policy/engine.ts";
import { SessionsJudge, type Setup } from "./judge-sessions.ts";
import type { Change } from "./replay.ts";
import { openStoreReader } from "./store-reader.ts";
import type { Tally } from "./tally.ts";

/** Compiled once for all threads. */
export interface Modules {
  readonly base: WebAssembly.Module;
  readonly head: WebAssembly.Module;
}

export type ToWorker =
  | { readonly type: "start"; readonly setup: Setup; readonly modules: Modules }
  | { readonly type: "judge"; readonly sessions: readonly string[] };

export type FromWorker =
  /** It listens: its modules load asynchronously, and what is said before is lost. */
  | { readonly type: "ready" }
  | { readonly type: "progress"; readonly commands: number }
  | { readonly type: "changes"; readonly changes: readonly Change[] }
  /** All of a `judge`; none for `start`. */
  | { readonly type: "judged"; readonly tally: Tally | undefined }
  | { readonly type: "failed"; readonly message: string };

declare const self: Worker;

const post = (message: FromWorker) => postMessage(message);
let judge: SessionsJudge | undefined;

async function handle(message: ToWorker): Promise<void> {
  switch (message.type) {
    case "start": {
      const { setup, modules } = message;
      shareModule(setup.base.wasm, modules.base);
      shareModule(setup.head.wasm, modules.head);
      const store = await openStoreReader(setup.store);
      judge = await SessionsJudge.start(setup, store, {
        progress: (commands) => post({ type: "progress", commands }),
        changes: (changes) => post({ type: "changes", changes }),
      });
      post({ type: "judged", tally: undefined });
      return;
    }
    case "judge": {
      if (judge === undefined) throw new Error("not started");
      post({ type: "judged", tally: await judge.judge(message.sessions) });
      return;
    }
  }
}

self.onmessage = (event: MessageEvent<ToWorker>) => {
  handle(event.data).catch((error: Error) => post({ type: "failed", message: error.message }));
};
post({ type: "ready" });
