import { defineConfig } from "vitest/config";

export default defineConfig({
  test: { include: ["test/**/*.test.ts"], pool: "forks", poolOptions: { forks: { execArgv: ["--expose-gc"] } }, testTimeout: 90_000, hookTimeout: 90_000, fileParallelism: false },
});
