"""Which connection goes where there are too many: the least useful, found without looking at all of them each time."""

from dataclasses import dataclass

from batchserver.eviction import LOOK_INTERVAL_SECONDS, MANY, Evictor, Rank


@dataclass(eq=False)
class Client:
    since: float
    does: Rank | None = Rank.NO_REQUEST_YET
    evicted: bool = False
    looked_at: int = 0

    def look(self, now: float) -> None:
        """It has no deadlines."""

    def rank(self, now: float) -> tuple[Rank, float] | None:
        self.looked_at += 1
        return None if self.does is None or self.evicted else (self.does, self.since)

    def evict(self) -> None:
        self.evicted = True


def evict(evictor: Evictor, clients: list[Client], now: float = 0.0) -> Client | None:
    """Who makes room for another."""
    before = {client for client in clients if client.evicted}
    if not evictor.evict_one(clients, Client(now), now):
        return None
    return next(client for client in clients if client.evicted and client not in before)


def test_it_works() -> None:
    clients = [Client(2, Rank.SLOW_BODY), Client(1, None), Client(5, Rank.BETWEEN_REQUESTS), Client(4), Client(3)]
    evictor = Evictor()
    assert [evict(evictor, clients) for _ in range(5)] == [clients[4], clients[3], clients[2], clients[0], None]


def test_a_crowd_is_looked_at_once() -> None:
    clients = [Client(number) for number in range(1_000)]
    evictor = Evictor()
    for number in range(1_000):
        assert evict(evictor, clients) is clients[number]
    assert sum(client.looked_at for client in clients) <= 2_000


def test_who_became_useful_stays() -> None:
    clients = [Client(1), Client(2), Client(3)]
    evictor = Evictor()
    evict(evictor, clients)
    clients[1].does = Rank.SLOW_BODY
    assert evict(evictor, clients) is clients[2]


def test_useful_connections_are_not_looked_at_for_each_new_one() -> None:
    clients = [Client(0, None) for _ in range(10 * MANY)]
    evictor = Evictor()
    assert [evict(evictor, clients) for _ in range(100)] == [None] * 100
    assert {client.looked_at for client in clients} == {1}
    clients[7].does = Rank.BETWEEN_REQUESTS
    assert evict(evictor, clients, now=2 * LOOK_INTERVAL_SECONDS) is clients[7]
