/* A service that adds numbers, and a client of it with a thread of its own. */

#ifndef COUNTER_H
#define COUNTER_H

struct counter;

/* Serves on a port of all addresses, a thread for each connection, until accepting fails. Returns errno. */
int counter_serve(int port);

/* Begins to connect to a host by its name. NULL if no thread can be started. */
struct counter *counter_open(const char *host, int port);

/* Adds a number. Returns the sum, or -1 if there was no response in time. */
long counter_add(struct counter *counter, int number, int timeout_ms);

/* How often the client has connected. */
int counter_connections(struct counter *counter);

/* Ends the client's thread. */
void counter_close(struct counter *counter);

#endif
