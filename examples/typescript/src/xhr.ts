// XMLHttpRequest over Node's fetch, as much of it as the client uses. Other than the packages of that name it hands out a
// text while it still arrives, which subscriptions need.

export class Request {
    readyState = 0;
    status = 0;
    statusText = '';
    responseText = '';
    responseType = '';
    withCredentials = false;
    timeout = 0;
    onreadystatechange: (() => void) | null = null;
    private method = 'GET';
    private url = '';
    private readonly sent = new Headers();
    private received = new Headers();
    private readonly stop = new AbortController();

    open(method: string, url: string): void {
        this.method = method;
        this.url = url;
        this.become(1);
    }

    setRequestHeader(name: string, value: string): void {
        this.sent.set(name, value);
    }

    getResponseHeader(name: string): string | null {
        return this.received.get(name);
    }

    getAllResponseHeaders(): string {
        return [...this.received].map(([name, value]) => `${name}: ${value}\r\n`).join('');
    }

    abort(): void {
        this.stop.abort();
    }

    send(body?: string | Uint8Array): void {
        this.exchange(body).catch(() => {
            // Status 0 is how the client knows that nobody answered.
            this.status = this.readyState > 1 ? this.status : 0;
            this.become(4);
        });
    }

    private async exchange(body?: string | Uint8Array): Promise<void> {
        const { method, sent: headers } = this;
        const answer = await fetch(this.url, { method, headers, body, signal: this.stop.signal });
        this.status = answer.status;
        this.statusText = answer.statusText;
        this.received = answer.headers;
        this.become(2);
        const decoder = new TextDecoder();
        for await (const part of answer.body ?? []) {
            this.responseText += decoder.decode(part, { stream: true });
            this.become(3);
        }
        this.become(4);
    }

    private become(state: number): void {
        this.readyState = state;
        this.onreadystatechange?.();
    }
}
